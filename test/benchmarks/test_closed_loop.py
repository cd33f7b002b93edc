"""The closed-loop study: its cases, its rows, and what it says of plain CEM."""

from mbrl_ros.benchmarks.closed_loop import SCARCE, Case, cases, format_row, run_case
from mbrl_ros.planners import PLANNERS
from mbrl_ros.planners.cem import CEMConfig


def test_every_planner_that_swings_up_and_every_option_of_cem_has_a_case():
    listed = list(cases())
    assert {c.planner for c in listed if c.group == "planners"} == set(PLANNERS) - {"lqr"}
    varied = {key for c in listed if c.group == "cem options" for key in c.settings}
    icem = {"noise_exponent", "decay", "keep_elites", "shift_elites", "add_mean", "best_first"}
    assert icem <= varied
    for case in listed:
        if case.planner == "cem":
            CEMConfig(**case.settings)


def test_a_row_holds_every_seed_and_repeats_itself():
    case = Case("planners", "cem", "few", SCARCE)
    row, again = run_case(case, seeds=2), run_case(case, seeds=2)
    assert len(row["costs"]) == len(row["held"]) == 2
    assert row["costs"] == again["costs"]
    assert row["costs"][0] != row["costs"][1]
    assert row["ensemble_ms"] > 0.0
    assert f"{row['costs'][0]:.1f} {row['costs'][1]:.1f}" in format_row(row)


def test_plain_cem_is_worse_with_as_few_candidates():
    icem, plain = (next(c for c in cases() if c.name.startswith(name)) for name in ("all on", "plain"))
    assert run_case(plain, seeds=1)["mean_cost"] > 1.3 * run_case(icem, seeds=1)["mean_cost"]
