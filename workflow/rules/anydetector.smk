"""A refiner that was trained alone, with the boxes of several detectors. No part of `all`."""


localrules:
    build_anydetector,


rule train_refiner:
    input:
        **jobs.start,
    output:
        *layout.refiner("{head}", "{seed}").outputs,
    log:
        layout.log("train_refiner_{head}_seed{seed}"),
    benchmark:
        layout.benchmark("train_refiner_{head}_seed{seed}")
    wildcard_constraints:
        head="|".join(HEADS),
    conda:
        "../../environment/conda.yaml"
    threads: suite.resources.cpus
    resources:
        **jobs.gpus(),
        mem_mb=suite.resources.mem_mb,
        runtime=suite.resources.runtime,
    params:
        suite=jobs.suite_file,
        config=lambda wildcards: jobs.recorded.refiner(wildcards.head),
    shell:
        jobs.train_refiner_command
        + " --suite {params.suite:q} --head {wildcards.head:q} --seed {wildcards.seed:q}"
        + f" --threads {suite.resources.cpus} > {{log:q}} 2>&1"


rule treat:
    input:
        data=jobs.start["data"],
        checkpoint=layout.run("{variant}", "{seed}").checkpoint,
        refiners=[layout.refiner(head, "{seed}").checkpoint for head in HEADS],
    output:
        layout.treated("{variant}", "{seed}", "{split}").index,
    log:
        layout.log("treat_{variant}_seed{seed}_{split}"),
    benchmark:
        layout.benchmark("treat_{variant}_seed{seed}_{split}")
    conda:
        "../../environment/conda.yaml"
    threads: 1
    resources:
        **jobs.gpus(most=1),
        mem_mb=suite.resources.mem_mb,
        runtime=suite.resources.runtime,
    params:
        suite=jobs.suite_file,
        config=lambda wildcards: jobs.recorded.treatment(wildcards.variant),
    shell:
        "python -m workflow.gpus 1 python -m experiments treat --suite {params.suite:q} --detector {wildcards.variant:q}"
        " --seed {wildcards.seed:q} --split {wildcards.split:q} --threads {threads} > {log:q} 2>&1"


rule build_anydetector:
    input:
        lambda wildcards: jobs.treated(),
        lambda wildcards: jobs.runs(suite.treated),
    output:
        layout.anydetector.readme,
    log:
        layout.log("anydetector"),
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
        "(python -m reports.anydetector --suite {params.suite:q} --results {params.results:q} --out {params.folder:q}"
        " && python -m experiments track {params.folder:q} --suite {params.suite:q}) > {log:q} 2>&1"


rule anydetector:
    input:
        rules.build_anydetector.input,
        rules.build_anydetector.output,
    localrule: True
