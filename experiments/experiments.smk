"""Data, trainings and evaluations of a suite."""

import json
import re
from pathlib import Path

import yaml

from experiments.files import atomic
from experiments.suite import config_hash, resolve_config, results_dir, training_hash

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


def evaluation_files(variant: str, seed: int, split: str = SPLIT) -> list[str]:
    """The files of one evaluation: a checkpoint on a split, in every inference setting."""
    folder = f"{RESULTS}/evaluations/{variant}/seed{seed}/{split}"
    names = [setting.name for setting in inference_settings(suite, variant)]
    return [
        *(f"{folder}/{name}.json" for name in names),
        *(f"{folder}/{name}.matches.json.gz" for name in names),
        f"{folder}/detections.json.gz",
    ]


# The settings, and with them the outputs, differ between variants: one rule each, of one body.
for _variant in suite["variants"]:

    rule:
        name:
            f"evaluate_{re.sub('[^A-Za-z0-9]', '_', _variant)}"
        input:
            data=START["data"],
            checkpoint=f"{RESULTS}/runs/{_variant}/seed{{seed}}/checkpoint.pth",
        output:
            evaluation_files(_variant, "{seed}", "{split}"),
        params:
            variant=_variant,
            config=config_hash(CONFIGS[_variant]),
            steps=suite["inference"]["num_steps"],
        log:
            f"{RESULTS}/logs/evaluate_{_variant}_seed{{seed}}_{{split}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/evaluate_{_variant}_seed{{seed}}_{{split}}.tsv"
        threads: 1
        resources:
            mem_mb=3000,
            runtime=60,
        conda:
            "../environment/conda.yaml"
        shell:
            "python -m experiments.evaluate --suite {SUITE_FILE} --variant {params.variant} --seed {wildcards.seed}"
            " --split {wildcards.split} --threads {threads} > {log} 2>&1"
