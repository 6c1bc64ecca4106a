"""The rules of the first release for tiny.yaml with tiny_sweep.yaml: their files and literal parameters, no work."""

SUITE = "results/tiny/suite.yaml"
TRAIN = "python -m experiments.gpus 1 python -m experiments.train"
START = ["results/tiny/data/dataset.json", "results/tiny/pretraining/checkpoint.pth"]
TRAININGS = {
    "faster_rcnn": "a19596401406375e",
    "samp1000_lw5.0": "674674bed996feca",
    "periou": "41c808b6a3b866ab",
}
OFF = "Setting(guide=None, step_size=None, num_steps=0)"
RANK = "Setting(guide='rank', step_size=None, num_steps=0)"
REFINED = "Setting(guide='rank', step_size=0.25, num_steps=2)"
EVALUATIONS = {
    "faster_rcnn": ["31ef5d4e0283ccb4", OFF],
    "samp1000_lw5.0": ["6c927be8ce12bde3", OFF, RANK, REFINED],
    "periou": ["a302f600509a6967", OFF, RANK, REFINED],
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
        fingerprint="63a87c6044b9ddaf3b6238b6ab2a82a14e1028e1d0f3f504eed51c05a80ad7da",
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
        config="fabb2482dcf5fc10",
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
            "31ef5d4e0283ccb4",
            "6c927be8ce12bde3",
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
        content="f641549eeae61cd2",
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
