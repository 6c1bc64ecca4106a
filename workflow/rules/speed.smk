"""The inference of the first seed's checkpoints, timed."""


rule speed:
    input:
        data=jobs.start["data"],
        checkpoints=lambda wildcards: jobs.timed_checkpoints(),  # an error where there is nothing to time
    output:
        jobs.speed,
    log:
        layout.log("speed"),
    benchmark:
        layout.benchmark("speed")
    conda:
        "../../environment/conda.yaml"
    threads: all_cores  # so that nothing runs beside it; suite.speed.threads compute
    resources:
        **jobs.gpus(most=1),
        mem_mb=3000 if suite.is_generated else suite.resources.mem_mb,
        runtime=10 if suite.is_generated else 120,
    params:
        suite=jobs.suite_file,
        content=jobs.recorded.speed(),
    shell:
        "python -m workflow.gpus 1 python -m experiments speed --suite {params.suite:q} --out {output:q} > {log:q} 2>&1"
