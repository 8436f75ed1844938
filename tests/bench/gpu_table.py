#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The table of launch/check-gpu, from its lines of JSON.    gpu_table.py RESULTS.jsonl

A line holds section, what, value, unit, and reference, ratio, verdict, note where it has them. A run of Farsight is set
beside the fastest run of PyTorch on the same model, and cuDNN beside PyTorch's; the file is written anew with what was
found. Exit code 1 if a verdict is FAILED, or there is no line at all.
"""
import json
import sys


def read(path):
    with open(path) as file:
        return [json.loads(line) for line in file if line.strip()]


def refer(row, reference, name):
    row.update(reference=name, reference_value=reference["value"], ratio=row["value"] / reference["value"])


def compare(rows):
    by_name = {r["what"]: r for r in rows if r.get("value")}
    for row in by_name.values():
        words = row["what"].split(" ", 2)
        if words[0] == "train" and not words[2].startswith("torch"):
            rivals = [r for r in by_name.values() if r["what"].startswith(f"train {words[1]} torch")]
            if rivals:
                best = max(rivals, key=lambda r: r["value"])
                refer(row, best, best["what"].split(" ", 2)[2])
        elif not row.get("reference_value"):
            for ours, theirs in ((row["what"].replace(" cuDNN ", " torch cuDNN "), "torch cuDNN"),
                                 (row["what"] + " torch", "torch")):
                if ours != row["what"] and ours in by_name:
                    refer(row, by_name[ours], theirs)


def judge(row):
    if row.get("verdict"):
        return row["verdict"]
    if not row.get("value"):
        return "refused"
    verdict = []
    if row.get("goal_mfu") and "torch" not in row["what"]:
        verdict.append("goal met" if row["mfu"] >= row["goal_mfu"] else f"goal {row['goal_mfu']:.0%} missed")
    if "torch" in row.get("reference", ""):
        verdict.append("level or faster" if row["ratio"] >= 1 else "slower")
    return ", ".join(verdict) or "measured"


def figure(row):
    if row["unit"] == "s":
        return f"{row['value']:.1f} s"
    text = f"{row['value']:,.0f} {row['unit']}" if row["value"] >= 1000 else f"{row['value']:.4g} {row['unit']}"
    if "mfu" in row:
        text += f", MFU {row['mfu']:.1%} (full attention {row['mfu_full']:.1%}), {row['memory_gib']:.1f} GiB"
    return text


def main(path):
    rows = read(path)
    compare(rows)
    for row in rows:
        row["verdict"] = judge(row)
    with open(path, "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    cells = [("section", "what", "result", "reference", "ratio", "verdict")]
    for row in rows:
        note = f" ({row['note']})" if row.get("note") else ""
        cells.append((row["section"], row["what"], figure(row), row.get("reference") or "",
                      f"{row['ratio']:.2f}" if row.get("ratio") else "", row["verdict"] + note))
    widths = [max(len(c[i]) for c in cells) for i in range(5)]
    for c in cells:
        print("  ".join([*(c[i].ljust(widths[i]) for i in range(5)), c[5]]))
    failed = sum(row["verdict"] == "FAILED" for row in rows)
    cut = sum(row["verdict"] == "cut off" for row in rows)
    print(f"\n{len(rows)} lines, {failed} failed, {cut} cut off")
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
