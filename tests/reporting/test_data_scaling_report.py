from __future__ import annotations

from dataclasses import replace

import pytest

from src.records.data_scaling import DataScalingRecord, ForecastRecord, MeasuredRecord
from src.reporting.data_scaling_report import format_scaling, scaling_sentences


def record(fitted: float, metric: str = "accuracy", sets: bool = False) -> DataScalingRecord:
    return DataScalingRecord(
        metric=metric,
        part="val",
        held_out=341,
        measured=(
            MeasuredRecord(250, "a", 0.55, 0.5, 0.6),
            MeasuredRecord(500, "b", 0.64, 0.59, 0.69),
        ),
        forecasts=(ForecastRecord(1000, 0.66, 0.55, 0.76, 0.04, 0.002, 0.09),),
        fitted=fitted,
        sets=sets,
    )


def test_a_gain_that_the_table_does_not_show_is_explained() -> None:
    """The measured figure lies beside the fitted curve, of which the forecast is a point."""
    explained = "Gains count from the fitted curve, which has 62.0 % at 500 pictures"
    assert f"{explained}; measured are 64.0 %." in scaling_sentences(record(0.62))
    assert not any("fitted" in one for one in scaling_sentences(record(0.6400001)))


def test_a_forecast_of_few_epochs_is_of_as_many_steps() -> None:
    *_, few, assumed = scaling_sentences(replace(record(0.64), epochs=2))
    assert few.startswith("Trained for 2 epochs, it may not have learnt all")
    assert "as many steps of training;" in assumed
    assert "the settings stay;" in scaling_sentences(record(0.64))[-1]


@pytest.mark.parametrize(
    ("metric", "name", "gain"),
    [
        ("accuracy", "accuracy", "4.0 points (95 % interval 0.2 to 9.0 points)"),
        ("kappa", "quadratic kappa", "0.040 (95 % interval 0.002 to 0.090)"),
    ],
)
def test_figures_and_gains_have_the_name_and_the_digits_of_the_metric(
    metric: str, name: str, gain: str
) -> None:
    text = format_scaling(record(0.64, metric), 100)
    assert text.startswith(f"{name} on 341 validation pictures")
    assert f"would raise the {name} by {gain}" in text


def test_accuracy_of_several_labels_is_the_exact_match() -> None:
    text = format_scaling(record(0.64, sets=True), 100)
    assert text.startswith("exact match on 341 validation pictures") and "accuracy" not in text
