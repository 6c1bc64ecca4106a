"""The rules of the first release for tiny.yaml with tiny_sweep.yaml: their files and literal parameters, no work."""

SUITE = "results/tiny/suite.yaml"
TRAIN = "python -m experiments.gpus 1 python -m experiments.train"
START = ["results/tiny/data/dataset.json", "results/tiny/pretraining/checkpoint.pth"]
TRAININGS = {
    "faster_rcnn": "30f0f007719f2a25",
    "samp1000_lw5.0": "5a0b20729e26bdef",
    "periou": "c895ceedf84157f4",
}
OFF = "Setting(guide=None, step_size=None, num_steps=0)"
RANK = "Setting(guide='rank', step_size=None, num_steps=0)"
REFINED = "Setting(guide='rank', step_size=0.25, num_steps=2)"
EVALUATIONS = {
    "faster_rcnn": ["8d2de7a0bd49c957", OFF],
    "samp1000_lw5.0": ["b550d3fa54eacd05", OFF, RANK, REFINED],
    "periou": ["b9d3bd88b2166c8d", OFF, RANK, REFINED],
}
RUN = "results/tiny/runs/{variant}/seed0"
SWEEP = "sweep.json trials.csv curves.csv profiles.csv importance.json best.json best.py best_variant.py best.yaml"


rule all:
    input:
        expand(
            "results/tiny/evaluations/{variant}/seed0/val/evaluation.json",
            variant=TRAININGS,
        ),
        "results/tiny/speed/cpu.json",
        expand("results/tiny/sweep/{name}", name=SWEEP.split()),


rule data:
    output:
        START[0],
    params:
        suite=SUITE,
        module="experiments.shapes",
        fingerprint="0bd1afdcfbe606aeba75695274e9a7353c965e4ba22d032089d52e6982ec0263",
    shell:
        "touch {output}"


rule pretraining:
    input:
        START[0],
    output:
        START[1],
        "results/tiny/pretraining/run.json",
        "results/tiny/pretraining/history.csv",
    params:
        start=TRAIN,
        suite=SUITE,
        config="5bbbebc803e5ef69",
        seed=0,
    shell:
        "touch {output}"


rule train:
    input:
        START,
    output:
        f"{RUN}/checkpoint.pth",
        f"{RUN}/run.json",
        f"{RUN}/history.csv",
    params:
        start=TRAIN,
        suite=SUITE,
        config=lambda wildcards: TRAININGS[wildcards.variant],
    shell:
        "touch {output}"


rule evaluate:
    input:
        START[0],
        f"{RUN}/checkpoint.pth",
    output:
        "results/tiny/evaluations/{variant}/seed0/val/evaluation.json",
    params:
        suite=SUITE,
        config=lambda wildcards: EVALUATIONS[wildcards.variant],
    shell:
        "touch {output}"


rule speed:
    input:
        START[0],
        expand(f"{RUN}/checkpoint.pth", variant=["faster_rcnn", "samp1000_lw5.0"]),
    output:
        "results/tiny/speed/cpu.json",
    params:
        suite=SUITE,
        content=[
            "8d2de7a0bd49c957",
            "b550d3fa54eacd05",
            f"Row(key='faster_rcnn', variant='faster_rcnn', setting={OFF}, fc_dtype=None)",
            f"Row(key='branch_off', variant='samp1000_lw5.0', setting={OFF}, fc_dtype=None)",
            f"Row(key='nms', variant='samp1000_lw5.0', setting={RANK}, fc_dtype=None)",
            f"Row(key='refine', variant='samp1000_lw5.0', setting={REFINED}, fc_dtype=None)",
            f"Row(key='refine_bfloat16', variant='samp1000_lw5.0', setting={REFINED}, fc_dtype='bfloat16')",
            "{'rounds': 2, 'images': 2, 'device': 'cpu', 'threads': 1, 'fc_dtype': 'bfloat16'}",
        ],
    shell:
        "touch {output}"


rule sweep_worker:
    input:
        START,
    output:
        "results/tiny/sweep/workers/{worker}.json",
    params:
        suite=SUITE,
        content="8e23a2f0e0a4f202",
    shell:
        "touch {output}"


rule sweep:
    input:
        expand("results/tiny/sweep/workers/{worker}.json", worker=[0, 1]),
    output:
        expand("results/tiny/sweep/{name}", name=SWEEP.split()),
    params:
        suite=SUITE,
        content=EVALUATIONS["samp1000_lw5.0"],
    shell:
        "touch {output}"
