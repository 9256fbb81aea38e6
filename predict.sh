#!/bin/sh
# What the container of the NeurIPS 2022 Cell Segmentation Challenge runs: images from /workspace/inputs, their labels
# as <name>_label.tiff into /workspace/outputs, beside seconds.csv, which `fewcell evaluate --efficiency` reads.
# Elsewhere, with options of `fewcell segment`: sh predict.sh INPUTS OUTPUTS --threads 2
set -u
inputs="${1:-/workspace/inputs}"
outputs="${2:-/workspace/outputs}"
[ $# -lt 2 ] || shift 2

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
status=0
fewcell segment "$inputs" -o "$work" --export tiff "$@" || status=$?

mkdir -p "$outputs" || exit 1
for made in "$work"/*_label.tiff "$work"/seconds.csv; do
    [ -e "$made" ] || continue
    name="${made##*/}"
    # Copied under another name first: whoever looks finds a file whole, or not at all.
    cp "$made" "$outputs/.$name.part" && mv "$outputs/.$name.part" "$outputs/$name" || exit 1
done
exit "$status" # 1 where an image failed; the labels of the others are there
