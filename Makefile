# Every target makes .venv itself; the second time that takes no time.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PEERS := .venv/.peers

# The one path outside the project: exact copies of the data sets, where they lie beside it.
ifneq ($(wildcard ../shared/data),)
export ROBUSTPOLICY_DATA ?= $(abspath ../shared/data)
endif

.PHONY: help setup demo mnist test test-all lint format bench results audits adversarial cifar10-short readme clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## make .venv and install the package with its tools

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "robustpolicy needs Python 3.11 or newer; run: make PYTHON=/path/to/python3.11 setup"; exit 1; }
	@echo "setting up .venv (torch and the tools; a minute or more)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

demo: $(STAMP) ## the main job on embedded digits, about a minute
	$(BIN)/robustpolicy demo

mnist: $(STAMP) ## the same on MNIST, beside the paper's Table 3 (40 epochs; about 10 minutes)
	$(BIN)/robustpolicy reproduce mnist --known

# One thread a test process: more of them fight for the cores.
test: export OMP_NUM_THREADS = 1
test: $(STAMP) ## the tests, a few minutes on two cores
	$(BIN)/python -m pytest -q -n auto --dist loadgroup -m "not slow"

test-all: export OMP_NUM_THREADS = 1
test-all: test ## the tests, then the long ones
	$(BIN)/python -m pytest -q -n auto --dist loadgroup -m slow

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(PEERS): $(STAMP) benchmarks/requirements.txt benchmarks/requirements-no-deps.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -r benchmarks/requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps -r benchmarks/requirements-no-deps.txt
	@touch $(PEERS)

# To keep the figures: make bench BENCH=--write
bench: $(PEERS) ## speed and equality against peers in the same run (an hour)
	$(BIN)/python benchmarks/loss.py $(BENCH)
	$(BIN)/python benchmarks/training.py $(BENCH)
	$(BIN)/python benchmarks/fused.py $(BENCH) --device cpu
	$(BIN)/python benchmarks/engines.py $(BENCH)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/pgd.py $(BENCH)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/attacks.py $(BENCH)

results: $(STAMP) ## measure again what README and results/ show (some hours of one core)
	$(BIN)/robustpolicy reproduce mnist --seeds 6 --results results
	$(BIN)/robustpolicy reproduce eq4-alone --seeds 3 --results results
	$(BIN)/robustpolicy reproduce rl --seeds 3 --results results
	$(BIN)/robustpolicy reproduce rl-stages --results results
	$(BIN)/python benchmarks/variance.py --write
	$(BIN)/python benchmarks/reward_model.py --write
	$(MAKE) audits adversarial cifar10-short

AUDIT = $(BIN)/robustpolicy audit --threads 1
audits: $(STAMP) ## audit LeNet5 on MNIST under six trainings
	mkdir -p results/audit
	$(BIN)/robustpolicy train mnist-pc --epochs 16 --threads 1 --output runs/pc
	$(BIN)/robustpolicy train mnist-gce --epochs 16 --threads 1 --output runs/gce
	$(BIN)/robustpolicy train mnist-at --threads 1 --output runs/at
	$(BIN)/robustpolicy train mnist-trades --threads 1 --output runs/trades
	for name in pc gce at trades; do $(AUDIT) runs/$$name --json results/audit/$$name.json; done
	for name in at trades; do $(AUDIT) runs/$$name --epsilon 0.3 --json results/audit/$$name-0.3.json; done
	for name in ce policy; do $(AUDIT) runs/mnist/$$name-seed0 --json results/audit/$$name.json; done

cifar10-short: $(STAMP) ## CIFAR-10 in minutes on two cores, to see that it trains
	$(BIN)/robustpolicy train cifar10-short --threads 2 --output runs/cifar10-short
	mkdir -p results/cifar10-short
	$(BIN)/robustpolicy evaluate runs/cifar10-short --attacks clean --json results/cifar10-short/ce.json

EVALUATE = $(BIN)/robustpolicy evaluate --attacks clean fgsm pgd autoattack --samples 1000
adversarial: export OMP_NUM_THREADS = 1
adversarial: $(STAMP) ## adversarially trained LeNet5 on MNIST at eps .1 and .3 under AutoAttack (two hours of a core)
	mkdir -p results/adversarial
	$(BIN)/robustpolicy train mnist-at --threads 1 --output runs/at
	$(BIN)/robustpolicy train mnist-trades --threads 1 --output runs/trades
	$(BIN)/robustpolicy train mnist-at --epsilon 0.3 --step-size 0.075 --ramp 4 --epochs 10 --threads 1 --output runs/at-0.3
	$(BIN)/robustpolicy train mnist-trades --epsilon 0.3 --step-size 0.075 --ramp 4 --epochs 10 --beta 1 --threads 1 --output runs/trades-0.3
	for name in at trades; do $(EVALUATE) runs/$$name --epsilon 0.1 --json results/adversarial/$$name-0.1.json; done
	for name in at trades; do $(EVALUATE) runs/$$name-0.3 --epsilon 0.3 --json results/adversarial/$$name-0.3.json; done

readme: $(STAMP) ## write README's tables from results/
	$(BIN)/python docs/tables.py

clean: ## remove .venv and caches, not runs or results
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build dist
