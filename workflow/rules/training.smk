"""Trainings: the shared start of all variants, then a variant with a seed.

The threads of a training decide the last digits of its weights. So torch gets the number that is asked for, also where
`--cores` leaves a job fewer.
"""


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
    threads: jobs.pretraining_threads
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
        + " --suite {params.suite:q} --variant pretraining --seed {params.seed}"
        + f" --threads {jobs.pretraining_threads} > {{log:q}} 2>&1"


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
        + " --suite {params.suite:q} --variant {wildcards.variant:q} --seed {wildcards.seed:q}"
        + f" --threads {suite.resources.cpus} > {{log:q}} 2>&1"
