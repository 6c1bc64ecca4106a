"""What every job shares, and the suite's images: made here, or in a folder, checked and indexed."""

from workflow.records import keep_records_in

keep_records_in(layout.snakemake, layout.root)
for lacking in jobs.missing():
    logger.warning(f"not there yet: {lacking}")
for odd in jobs.warnings():
    logger.warning(f"warning: {odd}")


onstart:  # not of a dry run, nor of what only looks, nor of a job on a cluster
    try:
        jobs.begin(
            workflow.dag,
            workflow.cores if workflow.local_exec else None,
            lambda line: logger.info(f"progress: {line}"),
        )
    except SuiteError as error:
        raise WorkflowError(str(error)) from None


# of this machine; on a cluster, which has no such number, as many as a training's
all_cores = lambda wildcards: (
    workflow.cores if workflow.local_exec else suite.resources.cpus
)


wildcard_constraints:
    variant="|".join(map(re.escape, (*suite.variants, *suite.detectors))),
    seed="[0-9]+",
    split="[a-z0-9]+",


rule data:
    output:
        layout.data.manifest,
    log:
        layout.log("data"),
    benchmark:
        layout.benchmark("data")
    conda:
        "../../environment/conda.yaml"
    threads: all_cores
    resources:
        mem_mb=1500 if suite.is_generated else 6000,
        runtime=10 if suite.is_generated else 60,
    params:
        **jobs.recorded.data(),
        suite=jobs.suite_file,
        folder=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python -m experiments data --suite {params.suite:q} --out {params.folder:q} --workers {threads} > {log:q} 2>&1"
