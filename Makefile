SHELL := /bin/bash
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
SUITE ?= shapes

.PHONY: help env all quick plan verify reference test test-slow test-slurm test-kill test-versions wheel coco voc bccd bench optuna-dashboard sync wandb-dashboards gpu-check lint format lock example clean
.DEFAULT_GOAL := help

help: ## say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

env: ## make .venv with everything (minutes the first time, nothing when nothing changed)
	@environment/setup.sh

all: env ## the main job: the whole suite `shapes`, ends with results/shapes/report/README.md
	snakemake all --cores

quick: env ## the same with one seed of three variants and without the sweep; `make all` goes on from its results
	snakemake all --cores --configfile experiments/shapes.yaml experiments/quick.yaml

plan: env ## what `make all` would run now, and how long it would take
	python -m workflow.plan

verify: env ## run the suite; fail if its figures are not those of the reference, reports/reference/shapes.json
	snakemake all --cores
	python -m reports.verify --suite experiments/shapes.yaml --results results/shapes

reference: env ## train and evaluate seeds 0 to 9, and add their figures to the reference of `make verify`
	snakemake all --cores --until evaluate --configfile experiments/shapes.yaml experiments/reference.yaml
	python -m reports.verify --record --suite results/shapes/suite.yaml --results results/shapes

test: env ## all tests but those marked slow, on as many cores as there are (4 at most)
	pytest -m "not slow and not kill" -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-slow: env ## the tests marked slow
	pytest -m slow

coco: env ## fetch COCO 2017 (20 GB) into data/coco and the backbone's weights; goes on where it stopped
	python -m experiments download --dataset coco2017

voc: env ## fetch Pascal VOC 2007 and 2012 (2.9 GB) into data/voc, or its archives from VOC_DIR=FOLDER, and the backbone's weights
	python -m experiments download --dataset voc $(if $(VOC_DIR),--from "$(VOC_DIR)")

bccd: env ## fetch 364 microscope images (9 MB) into data/bccd, or copy and check those of BCCD_DIR=FOLDER
	python -m experiments download --dataset bccd $(if $(BCCD_DIR),--from "$(BCCD_DIR)")

test-slurm: env ## the tiny suite on a SLURM of one node that the test starts (root; apt-get install slurm-wlm munge)
	pytest -rs tests/workflow/test_slurm.py

test-kill: env ## 20 kills at random points of the tiny suite; the results must be those of a run without any (half an hour)
	pytest -s -m kill tests/workflow/test_kill.py

wheel: env ## a wheel of iounet with the CPU kernels, for every Python and torch on machines of this kind, in dist/
	rm -rf build dist
	IOUNET_PREBUILD=1 pip wheel --no-deps --no-build-isolation --wheel-dir dist/built .
	auditwheel repair --wheel-dir dist dist/built/*.whl
	rm -rf build dist/built

test-versions: wheel ## the wheel's op with the oldest and the newest torch, under every Python found here (20 GB)
	environment/test_versions.sh

bench: env ## Precise RoI Pooling and a training iteration beside their peers: ratios, side by side in one process
	python -m tests.ops.bench_prroi_pool --out results/bench/prroi_pool.json
	python -m tests.experiments.training.bench_training --out results/bench/training.json

optuna-dashboard: ## Optuna's dashboard on the studies of SUITE=shapes (or of OPTUNA_STORAGE), at http://localhost:8080
	@command -v optuna-dashboard > /dev/null || { echo "optuna-dashboard is not installed: run make env" >&2; exit 1; }
	@[ -n "$$OPTUNA_STORAGE" ] || [ -f results/$(SUITE)/sweep/journal.log ] \
	  || { echo "results/$(SUITE)/sweep/journal.log: no such study: snakemake sweep makes it; another suite: make optuna-dashboard SUITE=name" >&2; exit 1; }
	optuna-dashboard "$${OPTUNA_STORAGE:-results/$(SUITE)/sweep/journal.log}"

gpu-check: ## on a machine with a GPU: the op against the oracle; after `make env` the detectors, too, and what they cost
	python3 -c "import sys, torch; torch.cuda.is_available() or sys.exit('make gpu-check: torch sees no GPU here')"
	python3 -m iounet.ops
	python3 -m pytest tests/ops -rs
	@python3 -c "import mmcv.ops, mmdet" 2> /dev/null \
	  || { echo "mmcv-full or mmdet is not installed here: no detector was checked, nothing was timed (make env)"; exit 0; }; \
	  set -ex; python3 -m pytest tests/models/test_on_gpu.py tests/experiments/training/test_precision.py -rs; \
	  python3 -m tests.ops.bench_prroi_pool --out results/bench/prroi_pool_gpu.json; \
	  python3 -m tests.experiments.speed.bench_inference --device cuda --out results/bench/inference_gpu.json

sync: env ## upload the offline Weights & Biases runs below results/, with their lineage
	python -m experiments sync

wandb-dashboards: env ## make the Weights & Biases workspace and report (online)
	python -m experiments dashboards

lint: env ## ruff, mypy, snakefmt, snakemake --lint, clang-format
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint
	clang-format --dry-run --Werror $$(git ls-files '*.cpp' '*.h' '*.cu' '*.cuh')

format: env ## let the formatters write
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow
	clang-format -i $$(git ls-files '*.cpp' '*.h' '*.cu' '*.cuh')

example: env ## write the committed example report, examples/SUITE, from results/SUITE (SUITE=shapes, or bccd)
	python -m reports.build --suite results/$(SUITE)/suite.yaml --results results/$(SUITE) --out results/$(SUITE)/report \
	  --example examples/$(SUITE)

lock: env ## write the installed versions to environment/constraints.txt
	environment/lock.sh

clean: ## delete the results and the environment
	rm -rf results .snakemake .venv
