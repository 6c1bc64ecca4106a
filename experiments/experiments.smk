"""Data, trainings and evaluations of a suite."""

import json
import re
from pathlib import Path

import yaml

from experiments.files import atomic
from experiments.suite import (
    config_hash,
    inference_settings,
    resolve_config,
    results_dir,
    training_hash,
)

RESULTS = results_dir(suite).as_posix()
SPLIT = suite["report_split"]
CONFIGS = {
    variant: resolve_config(suite, variant)
    for variant in [*suite["variants"], *(["pretraining"] if "pretraining" in suite else [])]
}
START = {"data": f"{RESULTS}/data/dataset.json"}
if "pretraining" in suite:
    START["pretraining"] = f"{RESULTS}/pretraining/checkpoint.pth"

# What the commands below read: the suite with its defaults and with what the command line overrides.
SUITE_FILE = f"{RESULTS}/suite.yaml"
SUITE_TEXT = yaml.safe_dump(suite, sort_keys=False)
if not Path(SUITE_FILE).is_file() or Path(SUITE_FILE).read_text() != SUITE_TEXT:
    with atomic(SUITE_FILE) as part:
        part.write_text(SUITE_TEXT)


wildcard_constraints:
    variant="|".join(map(re.escape, suite["variants"])),
    seed="[0-9]+",
    split="[a-z0-9]+",


rule data:
    output:
        START["data"],
    params:
        spec=json.dumps(suite["dataset"], sort_keys=True),
    log:
        f"{RESULTS}/logs/data.log",
    benchmark:
        f"{RESULTS}/benchmarks/data.tsv"
    threads: workflow.cores
    resources:
        mem_mb=1500,
        runtime=10,
    conda:
        "../environment/conda.yaml"
    shell:
        "python -m experiments.shapes --spec {SUITE_FILE} --out {RESULTS}/data --workers {threads} > {log} 2>&1"


rule pretraining:
    input:
        data=START["data"],
    output:
        f"{RESULTS}/pretraining/checkpoint.pth",
        f"{RESULTS}/pretraining/run.json",
        f"{RESULTS}/pretraining/history.csv",
    params:
        config=training_hash(CONFIGS["pretraining"]) if "pretraining" in CONFIGS else None,
        seed=suite.get("pretraining", {}).get("seed", 0),
    log:
        f"{RESULTS}/logs/pretraining.log",
    benchmark:
        f"{RESULTS}/benchmarks/pretraining.tsv"
    threads: workflow.cores
    resources:
        mem_mb=3000,
        runtime=60,
    conda:
        "../environment/conda.yaml"
    shell:
        "python -m experiments.train --suite {SUITE_FILE} --variant pretraining --seed {params.seed}"
        " --threads {threads} > {log} 2>&1"


rule train:
    input:
        **START,
    output:
        checkpoint=f"{RESULTS}/runs/{{variant}}/seed{{seed}}/checkpoint.pth",
        run=f"{RESULTS}/runs/{{variant}}/seed{{seed}}/run.json",
        history=f"{RESULTS}/runs/{{variant}}/seed{{seed}}/history.csv",
    params:
        config=lambda wildcards: training_hash(CONFIGS[wildcards.variant]),
    log:
        f"{RESULTS}/logs/train_{{variant}}_seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_{{variant}}_seed{{seed}}.tsv"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=120,
    conda:
        "../environment/conda.yaml"
    shell:
        "python -m experiments.train --suite {SUITE_FILE} --variant {wildcards.variant} --seed {wildcards.seed}"
        " --threads {threads} > {log} 2>&1"


def evaluation(variant: str, seed: int) -> str:
    """The index of one evaluation: a checkpoint on the reported split, in every inference setting of its variant.

    Written last; what it lists (a JSON and a matches file per setting, the detections) lies beside it.
    """
    return f"{RESULTS}/evaluations/{variant}/seed{seed}/{SPLIT}/evaluation.json"


rule evaluate:
    input:
        data=START["data"],
        checkpoint=f"{RESULTS}/runs/{{variant}}/seed{{seed}}/checkpoint.pth",
    output:
        f"{RESULTS}/evaluations/{{variant}}/seed{{seed}}/{{split}}/evaluation.json",
    params:
        config=lambda wildcards: config_hash(CONFIGS[wildcards.variant]),
        settings=lambda wildcards: [str(s) for s in inference_settings(suite, wildcards.variant)],
    log:
        f"{RESULTS}/logs/evaluate_{{variant}}_seed{{seed}}_{{split}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate_{{variant}}_seed{{seed}}_{{split}}.tsv"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    conda:
        "../environment/conda.yaml"
    shell:
        "python -m experiments.evaluate --suite {SUITE_FILE} --variant {wildcards.variant} --seed {wildcards.seed}"
        " --split {wildcards.split} --threads {threads} > {log} 2>&1"
