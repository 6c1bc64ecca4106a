"""A checkpoint in every inference setting, on a split."""


rule evaluate:
    input:
        data=jobs.start["data"],
        checkpoint=layout.run("{variant}", "{seed}").checkpoint,
    output:
        layout.evaluation("{variant}", "{seed}", "{split}").index,
    log:
        layout.log("evaluate_{variant}_seed{seed}_{split}"),
    benchmark:
        layout.benchmark("evaluate_{variant}_seed{seed}_{split}")
    conda:
        "../../environment/conda.yaml"
    threads: 1
    resources:
        **jobs.gpus(most=1),
        mem_mb=suite.resources.mem_mb,
        runtime=suite.resources.runtime,
    params:
        suite=jobs.suite_file,
        config=lambda wildcards: jobs.recorded.evaluation(wildcards.variant),
    shell:
        "python -m workflow.gpus 1 python -m experiments evaluate --suite {params.suite:q} --variant {wildcards.variant:q}"
        " --seed {wildcards.seed:q} --split {wildcards.split:q} --threads {threads} > {log:q} 2>&1"
