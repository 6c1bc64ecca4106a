"""The hyper-parameter search: workers on one study, then its results."""


rule sweep_worker:
    input:
        **jobs.start,
    output:
        layout.sweep.worker("{worker}"),
    log:
        layout.log("sweep_worker_{worker}"),
    benchmark:
        layout.benchmark("sweep_worker_{worker}")
    wildcard_constraints:
        worker="[0-9]+",
    conda:
        "../../environment/conda.yaml"
    threads: suite.resources.cpus
    resources:
        **jobs.gpus(most=1),
        mem_mb=suite.resources.mem_mb,
        runtime=max(240, suite.resources.runtime),  # of many trials, one after the other
    params:
        suite=jobs.suite_file,
        content=jobs.recorded.sweep_worker(),
    shell:
        "python -m workflow.gpus 1 python -m sweeps.worker --suite {params.suite:q} --worker {wildcards.worker:q}"
        " --threads {threads} --out {output:q} > {log:q} 2>&1"


rule sweep:
    input:
        lambda wildcards: jobs.worker_files(),  # an error for a suite that has no `sweep:` block
    output:
        *layout.sweep.outputs,
    log:
        layout.log("sweep"),
    benchmark:
        layout.benchmark("sweep")
    conda:
        "../../environment/conda.yaml"
    threads: 1
    resources:
        **jobs.gpus(most=1),
        mem_mb=suite.resources.mem_mb,
        runtime=suite.resources.runtime,
    params:
        suite=jobs.suite_file,
        content=jobs.recorded.sweep(),
    shell:
        "python -m workflow.gpus 1 python -m sweeps.summary --suite {params.suite:q} --threads {threads} > {log:q} 2>&1"
