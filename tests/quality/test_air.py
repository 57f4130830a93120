"""Dew point, warmed air and the height of the sun, against tables."""

from __future__ import annotations

import numpy as np
import pytest

from sensorhub.quality.air import dew_point, drier, sun


@pytest.mark.parametrize(
    ("temperature", "humidity", "expected"),
    # WMO psychrometric tables, within what the formula promises
    [(20, 50, 9.3), (30, 80, 26.2), (0, 100, 0.0), (25, 20, 0.5), (-10, 70, -14.5)],
)
def test_the_dew_point_is_that_of_the_tables(temperature, humidity, expected):
    found = dew_point(np.array([temperature]), np.array([humidity]))
    assert found[0] == pytest.approx(expected, abs=0.5)


def test_a_dead_hygrometer_gives_a_number_and_a_missing_one_none():
    found = dew_point(np.array([20.0, 20.0, np.nan]), np.array([0.0, np.nan, 50.0]))
    assert np.isfinite(found[0])
    assert np.isnan(found[1:]).all()


def test_warmed_air_is_drier_and_keeps_its_dew_point():
    warm, damp, more = np.array([15.0, 25.0]), np.array([60.0, 40.0]), np.array([4.0, 0.0])
    after = drier(damp, warm, more)
    assert after[0] < damp[0] - 10
    assert after[1] == damp[1]
    np.testing.assert_allclose(dew_point(warm + more, after), dew_point(warm, damp), atol=1e-9)


def test_the_sun_is_high_at_noon_in_summer_low_in_winter_and_gone_by_night():
    # Greenwich: 62.0 degrees at the summer solstice, 15.1 at the winter solstice
    moments = np.array(
        [1_718_884_800.0, 1_734_782_400.0, 1_718_928_000.0]
    )  # noon of 2024-06-20 and 12-21, midnight
    found = sun(moments, np.full(3, 51.48), np.zeros(3))
    np.testing.assert_allclose(np.degrees(np.arcsin(found)), [62.0, 15.1, 0.0], atol=1.0)


def test_where_the_place_is_not_known_there_is_no_sun():
    assert sun(np.array([1_718_884_800.0]), np.array([np.nan]), np.array([np.nan]))[0] == 0
