"""Says what the flights project knows: its entities, feature views and feature services.

It is its own file because `stook apply` reads definitions alone, and they must load in a moment. `stook.toml` names it,
and the demo imports the same objects. It must never read data or compute features; `prepare.py` has done that.
"""

from __future__ import annotations

from datetime import timedelta

from stook import (
    Bool,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    Float64,
    Int8,
    Int16,
    Int32,
    Int64,
    String,
    Timestamp,
)

origin = Entity("origin", join_keys={"origin": String}, description="one of New York's three airports, by code")
destination = Entity("destination", join_keys={"dest": String}, description="where a flight goes, by airport code")
carrier = Entity("carrier", join_keys={"carrier": String}, description="an airline, by two-letter code")
aircraft = Entity("aircraft", join_keys={"tailnum": String}, description="one aeroplane, by tail number")

# The one source with a knowledge time of its own: a report is dated at its hour and known an hour later.
weather = FeatureView(
    "weather",
    entities=[origin],
    ttl=timedelta(hours=6),
    schema=[
        Field("temp", Float64, "Fahrenheit"),
        Field("dewp", Float64, "dew point, Fahrenheit"),
        Field("humid", Float64, "relative humidity, percent"),
        Field("wind_dir", Int64, "degrees"),
        Field("wind_speed", Float64, "miles per hour"),
        Field("wind_gust", Float64, "miles per hour"),
        Field("precip", Float64, "inches in the hour"),
        Field("pressure", Float64, "millibars at sea level"),
        Field("visib", Float64, "miles"),
        Field("precip_6h", Float64, "inches in six hours"),
        Field("freezing_wet", Bool, "precipitation at or below freezing"),
    ],
    source=FileSource("data/weather.parquet", created_timestamp_column="created"),
    description="hourly weather at the airport of departure",
)

origin_traffic = FeatureView(
    "origin_traffic",
    entities=[origin],
    # Short on purpose: how an airport ran before the night says little about the morning.
    ttl=timedelta(hours=4),
    schema=[
        Field("origin_dep_delay_30m", Float64, "mean minutes, departures of the last half hour"),
        Field("origin_dep_delay_1h", Float64),
        Field("origin_dep_delay_3h", Float64),
        Field("origin_arr_delay_1h", Float64, "mean minutes, arrivals elsewhere that became known in the last hour"),
        Field("origin_arr_delay_3h", Float64),
        Field("origin_late_share_1h", Float64, "share more than 15 minutes late"),
        Field("origin_late_share_3h", Float64),
        Field("origin_late_share_24h", Float64),
        Field("origin_departures_1h", Int64),
        Field("origin_landings_3h", Int64),
        Field("origin_worst_dep_delay_1h", Int64, "minutes"),
        Field("origin_overdue_now", Int32, "flights at least 15 minutes past their schedule and still here"),
    ],
    source=FileSource("data/origin_traffic.parquet"),
    description="how departures from the airport are running",
)

carrier_record = FeatureView(
    "carrier_record",
    entities=[carrier],
    ttl=timedelta(days=1),
    schema=[
        Field("carrier_dep_delay_1h", Float64),
        Field("carrier_dep_delay_3h", Float64),
        Field("carrier_arr_delay_3h", Float64),
        Field("carrier_late_share_3h", Float64),
        Field("carrier_late_share_24h", Float64),
        Field("carrier_late_share_7d", Float64),
        Field("carrier_landings_24h", Int64),
        Field("carrier_overdue_now", Int32),
    ],
    source=FileSource("data/carrier_record.parquet"),
    description="how the airline is running out of New York",
)

route_record = FeatureView(
    "route_record",
    entities=[origin, destination],
    ttl=timedelta(days=14),
    schema=[
        Field("route_dep_delay_3h", Float64),
        Field("route_arr_delay_3h", Float64),
        Field("route_arr_delay_24h", Float64),
        Field("route_late_share_24h", Float64),
        Field("route_late_share_7d", Float64),
        Field("route_late_share_28d", Float64),
        Field("route_landings_7d", Int64),
        Field("route_last_arr_delay", Int64, "minutes, the newest arrival known"),
        Field("route_last_carrier", String, "who last left or landed on this route"),
    ],
    source=FileSource("data/route_record.parquet"),
    description="how the route has been running",
)

aircraft_record = FeatureView(
    "aircraft_record",
    entities=[aircraft],
    # About one day's rotation: what the aeroplane did yesterday no longer holds it up.
    ttl=timedelta(hours=16),
    schema=[
        Field("plane_airborne", Bool, "last seen leaving New York, not yet landed"),
        Field("plane_last_dep_delay", Int64, "minutes"),
        Field("plane_last_arr_delay", Int64, "minutes"),
        Field("plane_last_origin", String),
        Field("plane_last_dest", String),
        Field("plane_last_landed", Timestamp),
        Field("plane_legs_24h", Int64),
        Field("plane_arr_delay_24h", Float64),
        Field("plane_late_share_7d", Float64),
        Field("plane_late_share_28d", Float64),
    ],
    source=FileSource("data/aircraft_record.parquet"),
    description="what the aeroplane has done lately, as far as New York saw it",
)

aircraft_facts = FeatureView(
    "aircraft_facts",
    entities=[aircraft],
    ttl=None,
    schema=[
        Field("built", Int32, "year"),
        Field("manufacturer", String),
        Field("model", String),
        Field("engines", Int8),
        Field("seats", Int16),
        Field("engine", String),
        Field("multi_engine", Bool),
    ],
    source=FileSource("data/aircraft_facts.parquet"),
    description="what the register says of the aeroplane",
)

# What the model reads: numbers and flags only, since a tree model takes no words.
delay = FeatureService(
    "delay",
    features=[
        weather,
        origin_traffic,
        carrier_record,
        route_record[
            [
                "route_dep_delay_3h",
                "route_arr_delay_3h",
                "route_arr_delay_24h",
                "route_late_share_24h",
                "route_late_share_7d",
                "route_late_share_28d",
                "route_landings_7d",
                "route_last_arr_delay",
            ]
        ],
        aircraft_record[
            [
                "plane_airborne",
                "plane_last_dep_delay",
                "plane_last_arr_delay",
                "plane_legs_24h",
                "plane_arr_delay_24h",
                "plane_late_share_7d",
                "plane_late_share_28d",
            ]
        ],
        aircraft_facts[["built", "engines", "seats"]],
    ],
    description="will this flight arrive more than 15 minutes late, asked one hour before it leaves",
)

# Every feature of every type; the parity check reads this one.
everything = FeatureService(
    "everything",
    features=[weather, origin_traffic, carrier_record, route_record, aircraft_record, aircraft_facts],
    description="all that is known about a flight before it leaves",
)
