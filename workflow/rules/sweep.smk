"""The hyper-parameter search: workers on one study, then its results."""

from sweeps.space import Sweep

SWEEP = f"{RESULTS}/sweep"
SWEEP_RESULTS = (
    "sweep.json trials.csv curves.csv profiles.csv importance.json best.json best.py best_variant.py best.yaml"
).split()
searched = Sweep(suite) if "sweep" in suite else None


rule sweep_worker:
    input:
        **plan.start,
    output:
        f"{SWEEP}/workers/{{worker}}.json",
    log:
        f"{RESULTS}/logs/sweep_worker_{{worker}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/sweep_worker_{{worker}}.tsv"
    wildcard_constraints:
        worker="[0-9]+",
    conda:
        "../environment/conda.yaml"
    threads: TRAINING["cpus"]
    resources:
        **plan.gpus(most=1),
        mem_mb=TRAINING["mem_mb"],
        runtime=max(240, TRAINING["runtime"]),  # of many trials, one after the other
    params:
        suite=plan.suite_file,
        content=searched.fingerprint() if searched else "",
    shell:
        "python -m workflow.gpus 1 python -m sweeps.worker --suite {params.suite} --worker {wildcards.worker}"
        " --threads {threads} --out {output} > {log} 2>&1"


rule sweep:
    input:
        # an error for a suite that has no `sweep:` block
        lambda wildcards: (searched or Sweep(suite)).worker_files,
    output:
        expand("{folder}/{name}", folder=SWEEP, name=SWEEP_RESULTS),
    log:
        f"{RESULTS}/logs/sweep.log",
    benchmark:
        f"{RESULTS}/benchmarks/sweep.tsv"
    conda:
        "../environment/conda.yaml"
    threads: 1
    resources:
        **plan.gpus(most=1),
        mem_mb=TRAINING["mem_mb"],
        runtime=TRAINING["runtime"],
    params:
        suite=plan.suite_file,
        content=plan.evaluation_hash(searched.base) if searched else "",
    shell:
        "python -m workflow.gpus 1 python -m sweeps.summary --suite {params.suite} --threads {threads} > {log} 2>&1"
