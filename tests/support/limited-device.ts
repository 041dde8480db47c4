/** A CPU that says that it lacks some operations, as a GPU may: ggml's own device with another answer to `supports_op`. */
import koffi from 'koffi';
import {
  type BackendHandle,
  DEVICE,
  type Device,
  type Native,
  setBackendThreads,
  type Tensor,
} from '../../src/engine/native/library.ts';

/** `ggml_backend_device` and `ggml_backend` of ggml-backend-impl.h, in pointers. */
const DEVICE_POINTERS = 17;
const SUPPORTS_OP = 9;
const BACKEND_DEVICE = 17;

const SUPPORTS = koffi.pointer(koffi.proto('bool tmem_supports_op(void *device, void *operation)'));

/** A new CPU backend with one thread. */
export function cpuBackend(native: Native): BackendHandle {
  const device = native.deviceByType(DEVICE.CPU)!;
  const backend = native.deviceInit(device, null);
  setBackendThreads(native, device, backend, 1);
  return backend;
}

/** Such a backend on a device that lacks what `lacks` says. */
export function limitedBackend(
  native: Native,
  lacks: (operation: string) => boolean,
): { device: Device; backend: BackendHandle } {
  const cpu = native.deviceByType(DEVICE.CPU)!;
  const supports = koffi.register(
    (_: unknown, operation: Tensor) => !lacks(native.operation(operation)) && native.supports(cpu, operation),
    SUPPORTS,
  );
  const bytes = DEVICE_POINTERS * 8;
  const device = koffi.alloc('uint8', bytes) as Device;
  const words = new BigUint64Array(koffi.view(device, bytes));
  words.set(new BigUint64Array(koffi.view(cpu, bytes)));
  words[SUPPORTS_OP] = BigInt(koffi.address(supports));
  const backend = cpuBackend(native);
  new BigUint64Array(koffi.view(backend, (BACKEND_DEVICE + 1) * 8))[BACKEND_DEVICE] = BigInt(koffi.address(device));
  return { device, backend };
}
