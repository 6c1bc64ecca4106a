"""RoIAlign beside Precise RoI Pooling, and inside an IoU-Net that was trained with the latter. No part of `all`."""


localrules:
    build_pooling,


rule measure_pooling:
    input:
        data=jobs.start["data"],
        # an error for a suite without an IoU-Net
        checkpoints=lambda wildcards: [
            jobs.pooled_checkpoint(seed) for seed in suite.seeds
        ],
    output:
        layout.measured_pooling,
    log:
        layout.log("measure_pooling"),
    benchmark:
        layout.benchmark("measure_pooling")
    conda:
        "../../environment/conda.yaml"
    threads: all_cores  # so that nothing runs beside what is timed; one thread computes
    resources:
        **jobs.gpus(most=1),
        mem_mb=suite.resources.mem_mb,
        runtime=suite.resources.runtime,
    params:
        suite=jobs.suite_file,
        config=lambda wildcards: jobs.recorded.measure_pooling(),
    shell:
        "python -m workflow.gpus 1 python -m experiments pooling --suite {params.suite:q} --out {output:q} > {log:q} 2>&1"


rule swap:
    input:
        data=jobs.start["data"],
        checkpoint=lambda wildcards: jobs.pooled_checkpoint(wildcards.seed),
    output:
        layout.swapped("{pooling}", "{seed}", suite.report_split).index,
    log:
        layout.log("swap_{pooling}_seed{seed}"),
    benchmark:
        layout.benchmark("swap_{pooling}_seed{seed}")
    wildcard_constraints:
        pooling="align[0-9]+",
    conda:
        "../../environment/conda.yaml"
    threads: 1
    resources:
        **jobs.gpus(most=1),
        mem_mb=suite.resources.mem_mb,
        runtime=suite.resources.runtime,
    params:
        suite=jobs.suite_file,
        config=lambda wildcards: jobs.recorded.swap(wildcards.pooling),
    shell:
        "python -m workflow.gpus 1 python -m experiments swap --suite {params.suite:q} --pooling {wildcards.pooling:q}"
        " --seed {wildcards.seed:q} --threads {threads} > {log:q} 2>&1"


rule build_pooling:
    input:
        lambda wildcards: jobs.evaluations(jobs.pooled_variants),
        lambda wildcards: jobs.runs(jobs.pooled_variants),
        lambda wildcards: jobs.swapped(),
        measured=rules.measure_pooling.output,
    output:
        layout.pooling.readme,
    log:
        layout.log("pooling"),
    conda:
        "../../environment/conda.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        suite=jobs.suite_file,
        folder=lambda wildcards, output: Path(output[0]).parent,
        results=lambda wildcards, output: Path(output[0]).parents[1],
        content=suite.text,
    shell:
        "(python -m reports.pooling --suite {params.suite:q} --results {params.results:q} --out {params.folder:q}"
        " && python -m experiments track {params.folder:q} --suite {params.suite:q}) > {log:q} 2>&1"


rule pooling:
    input:
        rules.build_pooling.input,
        rules.build_pooling.output,
    localrule: True
