"""The power budget against sums by hand and published examples."""

import math

import msgspec
import pytest

from hardware_build import power
from hardware_build.schema import Site

replace = msgspec.structs.replace
SITE = Site(what="test", latitude=0, clearness=0.5, autonomy_days=1)


def test_sun_outside_the_atmosphere_is_that_of_fao_56():
    # R. G. Allen et al., FAO Irrigation and Drainage Paper 56, example 8: 3 September at 20 degrees south, 32.2 MJ/m2
    assert power.extraterrestrial_wh(-20, 246) * 3.6 / 1000 == pytest.approx(32.2, abs=0.1)


@pytest.mark.parametrize("latitude", [-50, -20, 0, 35, 60])
@pytest.mark.parametrize("day", power.MEAN_DAYS)
def test_a_level_panel_gets_what_the_ground_gets(latitude, day):
    flat = power.tilted_wh(SITE, 0, day, latitude)
    assert flat == pytest.approx(SITE.clearness * power.extraterrestrial_wh(latitude, day), rel=1e-9)


def test_hemispheres_mirror_each_other():
    # half a year apart; the sun is nearer in January
    north = power.tilted_wh(SITE, 40, 172, 45) / (1 + 0.033 * math.cos(2 * math.pi * 172 / 365))
    south = power.tilted_wh(SITE, 40, 355, -45) / (1 + 0.033 * math.cos(2 * math.pi * 355 / 365))
    assert north == pytest.approx(south, rel=0.01)


def test_the_worst_month_is_winter():
    assert power.worst_month(SITE, 60, 50)[0] == "Dec"
    assert power.worst_month(SITE, 60, -50)[0] == "Jun"


def test_a_steeper_panel_gets_more_in_winter():
    assert power.tilted_wh(SITE, 65, 344, 50) > 1.5 * power.tilted_wh(SITE, 0, 344, 50)


def test_bench_by_hand(bench):
    board = 0.96 * 44 + 0.03 * 100 + 240 * 1.5 / 10 + 12
    thermometer = 0.05 * 0.032 + 0.0001 * 0.968
    loads = power.rail_loads(bench)
    assert loads["3V3"].average_ma == pytest.approx(board + thermometer)
    assert loads["5V"].average_ma == pytest.approx(board + thermometer + 5)
    made = power.budget(bench)
    assert made.daily_wh == pytest.approx(loads["5V"].average_ma * 5 * 24 / 1000 / power.BOOST)


def test_a_converter_keeps_power_and_a_regulator_current(nodes):
    weather = nodes["weather"]
    five, load = weather.rail("5V"), weather.rail("VLOAD")
    assert power.drawn(five, load, 100) == pytest.approx(100 * 5 / 3.7 / 0.88 + 0.1)
    assert power.drawn(weather.rail("3V3"), five, 100) == pytest.approx(105)


def test_rest_is_what_other_states_leave(bench):
    thermometer = bench.part("U2")
    always = replace(thermometer, currents=[replace(thermometer.currents[1], typical_ma=10, rest=True)])
    assert power.average_ma(always, bench) == pytest.approx(10)


def test_more_autonomy_takes_a_larger_battery(node):
    more = replace(node, power=replace(node.power, site=replace(node.power.site, autonomy_days=8)))
    assert power.budget(more).battery_wh == pytest.approx(2 * power.budget(node).battery_wh)
