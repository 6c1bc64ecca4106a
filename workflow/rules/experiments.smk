"""Data, trainings and evaluations of a suite."""

import re
from pathlib import Path

from workflow.jobs import Plan

plan = Plan(suite)
for lacking in plan.missing():
    logger.warning(f"not there yet: {lacking}")


onstart:
    plan.write_suite()  # what the commands read; a dry run leaves it alone


RESULTS = plan.results
TRAINING = suite.resources

# of this machine; on a cluster, which has no such number, as many as a training's
all_cores = lambda wildcards: (
    workflow.cores if workflow.local_exec else TRAINING["cpus"]
)


wildcard_constraints:
    variant="|".join(map(re.escape, suite.variants)),
    seed="[0-9]+",
    split="[a-z0-9]+",


rule data:
    output:
        plan.start["data"],
    log:
        f"{RESULTS}/logs/data.log",
    benchmark:
        f"{RESULTS}/benchmarks/data.tsv"
    conda:
        "../environment/conda.yaml"
    threads: all_cores
    resources:
        mem_mb=1500 if "generator" in suite.dataset else 6000,
        runtime=10 if "generator" in suite.dataset else 60,
    params:
        suite=plan.suite_file,
        folder=lambda wildcards, output: Path(output[0]).parent,
        module=plan.data_module,
        fingerprint=plan.data_fingerprint,
    shell:
        "python -m {params.module} --spec {params.suite} --out {params.folder} --workers {threads} > {log} 2>&1"


rule pretraining:
    input:
        plan.start["data"],
    output:
        f"{RESULTS}/pretraining/checkpoint.pth",
        f"{RESULTS}/pretraining/run.json",
        f"{RESULTS}/pretraining/history.csv",
    log:
        f"{RESULTS}/logs/pretraining.log",
    benchmark:
        f"{RESULTS}/benchmarks/pretraining.tsv"
    conda:
        "../environment/conda.yaml"
    threads: TRAINING["cpus"] if TRAINING["gpus"] else all_cores
    resources:
        **plan.gpus(),
        mem_mb=TRAINING["mem_mb"],
        runtime=TRAINING["runtime"],
    params:
        start=plan.train_command(),
        suite=plan.suite_file,
        config=plan.training_hash("pretraining"),
        seed=suite.get("pretraining", {}).get("seed", 0),
    shell:
        "{params.start} --suite {params.suite} --variant pretraining --seed {params.seed}"
        " --threads {threads} > {log} 2>&1"


rule train:
    input:
        **plan.start,
    output:
        f"{RESULTS}/runs/{{variant}}/seed{{seed}}/checkpoint.pth",
        f"{RESULTS}/runs/{{variant}}/seed{{seed}}/run.json",
        f"{RESULTS}/runs/{{variant}}/seed{{seed}}/history.csv",
    log:
        f"{RESULTS}/logs/train_{{variant}}_seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_{{variant}}_seed{{seed}}.tsv"
    conda:
        "../environment/conda.yaml"
    threads: TRAINING["cpus"]
    resources:
        **plan.gpus(),
        mem_mb=TRAINING["mem_mb"],
        runtime=TRAINING["runtime"],
    params:
        start=plan.train_command(),
        suite=plan.suite_file,
        config=lambda wildcards: plan.training_hash(wildcards.variant),
    shell:
        "{params.start} --suite {params.suite} --variant {wildcards.variant} --seed {wildcards.seed}"
        " --threads {threads} > {log} 2>&1"


rule evaluate:
    input:
        data=plan.start["data"],
        checkpoint=f"{RESULTS}/runs/{{variant}}/seed{{seed}}/checkpoint.pth",
    output:
        f"{RESULTS}/evaluations/{{variant}}/seed{{seed}}/{{split}}/evaluation.json",
    log:
        f"{RESULTS}/logs/evaluate_{{variant}}_seed{{seed}}_{{split}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate_{{variant}}_seed{{seed}}_{{split}}.tsv"
    conda:
        "../environment/conda.yaml"
    threads: 1
    resources:
        **plan.gpus(most=1),
        mem_mb=TRAINING["mem_mb"],
        runtime=TRAINING["runtime"],
    params:
        suite=plan.suite_file,
        config=lambda wildcards: plan.evaluation_hash(wildcards.variant),
    shell:
        "python -m workflow.gpus 1 python -m experiments.evaluation.evaluate --suite {params.suite}"
        " --variant {wildcards.variant} --seed {wildcards.seed} --split {wildcards.split} --threads {threads} > {log} 2>&1"


if plan.speed:

    rule speed:
        input:
            data=plan.start["data"],
            checkpoints=plan.timed_checkpoints(),
        output:
            plan.speed,
        log:
            f"{RESULTS}/logs/speed.log",
        benchmark:
            f"{RESULTS}/benchmarks/speed.tsv"
        conda:
            "../environment/conda.yaml"
        threads: all_cores  # so that nothing runs beside it; suite.speed.threads compute
        resources:
            **plan.gpus(most=1),
            mem_mb=3000 if "generator" in suite.dataset else TRAINING["mem_mb"],
            runtime=10 if "generator" in suite.dataset else 120,
        params:
            suite=plan.suite_file,
            content=plan.speed_hash(),
        shell:
            "python -m workflow.gpus 1 python -m experiments.speed.timing --suite {params.suite} --out {output}"
            " > {log} 2>&1"
