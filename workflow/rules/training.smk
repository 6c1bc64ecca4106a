"""Trainings: the shared start of all variants, then a variant with a seed."""


rule pretraining:
    input:
        jobs.start["data"],
    output:
        *layout.pretraining.outputs,
    log:
        layout.log("pretraining"),
    benchmark:
        layout.benchmark("pretraining")
    conda:
        "../../environment/conda.yaml"
    threads: suite.resources.cpus if suite.resources.gpus else all_cores
    resources:
        **jobs.gpus(),
        mem_mb=suite.resources.mem_mb,
        runtime=suite.resources.runtime,
    params:
        suite=jobs.suite_file,
        seed=jobs.recorded.pretraining_seed(),
        command=jobs.recorded.command(),
        config=jobs.recorded.training("pretraining"),
    shell:
        jobs.train_command
        + " --suite {params.suite:q} --variant pretraining --seed {params.seed} --threads {threads} > {log:q} 2>&1"


rule train:
    input:
        **jobs.start,
    output:
        *layout.run("{variant}", "{seed}").outputs,
    log:
        layout.log("train_{variant}_seed{seed}"),
    benchmark:
        layout.benchmark("train_{variant}_seed{seed}")
    conda:
        "../../environment/conda.yaml"
    threads: suite.resources.cpus
    resources:
        **jobs.gpus(),
        mem_mb=suite.resources.mem_mb,
        runtime=suite.resources.runtime,
    params:
        suite=jobs.suite_file,
        command=jobs.recorded.command(),
        config=lambda wildcards: jobs.recorded.training(wildcards.variant),
    shell:
        jobs.train_command
        + " --suite {params.suite:q} --variant {wildcards.variant:q} --seed {wildcards.seed:q} --threads {threads} > {log:q} 2>&1"
