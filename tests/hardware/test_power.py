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
    led = 0.006 * 1.3
    loads = power.rail_loads(bench)
    assert loads["3V3"].average_ma == pytest.approx(board + thermometer + led)
    assert loads["5V"].average_ma == pytest.approx(board + thermometer + led + 5)
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


def hourly(site, tilt_deg, day, latitude):
    """Wh/m2 on the panel, by another way: summed over the day, with the shares of Collares-Pereira and Rabl (1979, global) and
    Liu and Jordan (1960, diffuse), declination and distance by Spencer (1971)."""
    phi, beta = math.radians(latitude), math.radians(tilt_deg)
    turn = 2 * math.pi * (day - 1) / 365
    delta = (
        0.006918 - 0.399912 * math.cos(turn) + 0.070257 * math.sin(turn) - 0.006758 * math.cos(2 * turn)
        + 0.000907 * math.sin(2 * turn) - 0.002697 * math.cos(3 * turn) + 0.00148 * math.sin(3 * turn)
    )  # fmt: skip
    distance = (
        1.00011 + 0.034221 * math.cos(turn) + 0.00128 * math.sin(turn) + 0.000719 * math.cos(2 * turn)
        + 0.000077 * math.sin(2 * turn)
    )  # fmt: skip
    sunset = math.acos(-math.tan(phi) * math.tan(delta))
    steps = 2000
    angles = [-sunset + (index + 0.5) * 2 * sunset / steps for index in range(steps)]
    hours = 2 * sunset / steps * 12 / math.pi
    heights = [
        math.sin(phi) * math.sin(delta) + math.cos(phi) * math.cos(delta) * math.cos(angle)
        for angle in angles
    ]
    level = site.clearness * sum(1361 * distance * height * hours for height in heights)
    k = site.clearness
    winter = math.degrees(sunset) <= 81.4
    share = 1.391 - 3.56 * k + 4.189 * k**2 - 2.137 * k**3
    share = share if winter else 1.311 - 3.022 * k + 3.427 * k**2 - 1.821 * k**3
    a = 0.409 + 0.5016 * math.sin(sunset - math.pi / 3)
    b = 0.6609 - 0.4767 * math.sin(sunset - math.pi / 3)
    norm = math.pi / 24 / (math.sin(sunset) - sunset * math.cos(sunset))
    total = 0.0
    for angle, height in zip(angles, heights, strict=True):
        diffuse = norm * (math.cos(angle) - math.cos(sunset)) * share * level
        whole = norm * (a + b * math.cos(angle)) * (math.cos(angle) - math.cos(sunset)) * level
        beam = max(0.0, whole - diffuse)
        onto = math.sin(delta) * math.sin(phi - beta) + math.cos(delta) * math.cos(phi - beta) * math.cos(
            angle
        )
        total += hours * (
            beam * max(0.0, onto) / max(height, 0.03)
            + diffuse * (1 + math.cos(beta)) / 2
            + site.albedo * whole * (1 - math.cos(beta)) / 2
        )
    return total


@pytest.mark.parametrize("latitude", [0, 20, 35, 48, 52, 60])
def test_an_independent_sum_over_the_hours_agrees(latitude):
    site = replace(SITE, clearness=0.32)
    tilt = power.winter_tilt(latitude)
    month, sun = power.worst_month(site, tilt, latitude)
    day = power.MEAN_DAYS[power.MONTHS.index(month)]
    assert sun == pytest.approx(hourly(site, tilt, day, latitude), rel=0.07)


def test_a_december_in_berlin_is_a_dark_one():
    # level: the long-term mean there is 0.5 to 0.6 kWh/m2 a day
    site = replace(SITE, clearness=0.3)
    assert 450 < power.tilted_wh(site, 0, power.MEAN_DAYS[11], 52.5) < 650
