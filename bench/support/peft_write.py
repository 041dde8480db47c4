#!/usr/bin/env python3
"""One memory write by PyTorch and Hugging Face PEFT: the peer of bench/write.ts.

The same GGUF (dequantised by transformers), the same rendered samples and the same step-0 adapter as on our side. A is
frozen, B is trained, the loss is on answer tokens. Prints one JSON document with the fields of `WriteRun` in
write-ours.ts; `weights` says in which types the model is held.

  python3 -m venv venv
  venv/bin/pip install torch==2.9.1 transformers==5.23.0 peft==0.21.2 gguf==0.19.0 sentencepiece
"""
import argparse
import json
import os
import resource
import sys
import time

start = time.perf_counter()
import peft
import torch
import transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--gguf", required=True)
parser.add_argument("--rendered", required=True, help="JSONL of {prompt, answer}, as `tmem sft` renders them")
parser.add_argument("--adapter", required=True, help="PEFT folder of the step-0 adapter, as `tmem sft` exports it")
parser.add_argument("--optimizer", choices=["sgd", "adamw"], required=True)
parser.add_argument("--lr", type=float, required=True)
parser.add_argument("--epochs", type=int, required=True)
parser.add_argument("--batch", type=int, required=True)
parser.add_argument("--threads", type=int, required=True)
parser.add_argument("--dtype", choices=["float32", "bfloat16"], required=True)
args = parser.parse_args()


def peak_mib():
    """VmHWM on Linux, which can be reset; ru_maxrss elsewhere (bytes on macOS, KiB on other systems)."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def reset_peak():
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as refs:
            refs.write("5")
        return True
    except OSError:
        return False


transformers.utils.logging.set_verbosity_error()
torch.set_num_threads(args.threads)
folder, name = os.path.split(os.path.abspath(args.gguf))
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
base = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=getattr(torch, args.dtype))
model = PeftModel.from_pretrained(base, args.adapter, is_trainable=True)
trained = []
for key, weight in model.named_parameters():
    weight.requires_grad = "lora_B" in key
    if weight.requires_grad:
        trained.append(weight)
with open(args.rendered, encoding="utf-8") as file:
    rendered = [json.loads(line) for line in file if line.strip()]
load_ms = (time.perf_counter() - start) * 1000
load_peak = peak_mib()
fresh = reset_peak()

begin = time.perf_counter()
samples = []
for sample in rendered:
    prompt = tokenizer(sample["prompt"], add_special_tokens=False).input_ids
    answer = tokenizer(sample["answer"], add_special_tokens=False).input_ids
    samples.append((prompt + answer, [-100] * len(prompt) + answer))


def padded(part):
    """input_ids, attention_mask and labels of a batch, each [samples, longest]."""
    width = max(len(ids) for ids, _ in part)
    fill = lambda row, value: row + [value] * (width - len(row))
    return {
        "input_ids": torch.tensor([fill(ids, 0) for ids, _ in part]),
        "attention_mask": torch.tensor([fill([1] * len(ids), 0) for ids, _ in part]),
        "labels": torch.tensor([fill(labels, -100) for _, labels in part]),
    }


batches = [padded(samples[i : i + args.batch]) for i in range(0, len(samples), args.batch)]
if args.optimizer == "sgd":
    optimizer = torch.optim.SGD(trained, lr=args.lr)
else:
    optimizer = torch.optim.AdamW(trained, lr=args.lr, weight_decay=0.0)
losses, epoch_ms = [], []
for _ in range(args.epochs):
    epoch = time.perf_counter()
    for batch in batches:
        loss = model(**batch, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    epoch_ms.append((time.perf_counter() - epoch) * 1000)
write_ms = (time.perf_counter() - begin) * 1000
write_peak = peak_mib()

print(json.dumps({
    "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__},
    "weights": sorted({str(w.dtype) for key, w in model.named_parameters() if "lora_" not in key}),
    "loadMs": load_ms,
    "epochMs": epoch_ms,
    "writeMs": write_ms,
    "loss": losses,
    "tokens": sum(len(ids) for ids, _ in samples),
    "answerTokens": sum(label != -100 for _, labels in samples for label in labels),
    "peakMiB": max(load_peak, write_peak),
    "writePeakMiB": write_peak if fresh else None,
}))
