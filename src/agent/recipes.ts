/** The guarded write as the episode takes it. */
import type { Engine } from '../engine/types.ts';
import type { RecipeSettings } from '../memory/recipe.ts';
import type { Writer } from '../memory/types.ts';

/** A recipe by name, ready to be bound to an engine. @throws TmemError `usage` for an unknown name. */
export async function bindRecipe(name: string, settings: RecipeSettings = {}): Promise<(engine: Engine) => Writer> {
  const { getRecipe } = await import('../memory/recipe.ts');
  const { writePairs } = await import('../memory/write.ts');
  const recipe = getRecipe(name, settings);
  return (engine) => (state, pairs, options) => writePairs(engine, state, pairs, recipe, options);
}
