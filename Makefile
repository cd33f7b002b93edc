# make sim    set up what is missing and run the main job: a cart-pole learns to swing up
# make test   set up what is missing and run the tests, two at a time
# make lint   ruff and mypy
# ARGS="..."  is passed on, e.g. make sim ARGS="--planner random_shooting --seed 3"
#
# Where ROS 2 is sourced its rclpy is used; elsewhere ROS 2 comes as wheels.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WITH_ROS := $(shell $(PYTHON) -c "import rclpy" 2>/dev/null && echo yes)
REQUIREMENTS := requirements.txt $(if $(WITH_ROS),requirements-system-ros.txt,requirements-ros.txt)
READY := $(VENV)/.ready$(if $(WITH_ROS),-ros)
DEV_READY := $(VENV)/.ready-dev$(if $(WITH_ROS),-ros)
QUIET := --quiet --disable-pip-version-check

export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

.PHONY: sim test lint setup clean

sim: $(READY)
	@$(BIN)/mbrl_ros sim $(ARGS)

test: $(DEV_READY)
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

lint: $(DEV_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: $(READY)

$(READY): $(REQUIREMENTS) setup.py
	@echo "setting up $(VENV) (once; $(if $(WITH_ROS),with the ROS 2 that is sourced,ROS 2 comes as wheels))"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(if $(WITH_ROS),--system-site-packages) $(VENV)
	@$(BIN)/pip install $(QUIET) "setuptools>=77,<81" wheel
	@$(BIN)/pip install $(QUIET) $(foreach file,$(REQUIREMENTS),-r $(file))
	@$(BIN)/pip install $(QUIET) --no-build-isolation --no-deps -e . 2>/dev/null || $(BIN)/pip install --no-build-isolation --no-deps -e .
	@$(BIN)/python -m mbrl_ros.warm_up
	@touch $@

$(DEV_READY): $(READY) requirements-dev.txt
	@$(BIN)/pip install $(QUIET) -r requirements-dev.txt
	@touch $@

clean:
	rm -rf $(VENV) build install log
