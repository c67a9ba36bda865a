"""The table of REST's routes: handlers and OpenAPI are both made from it."""

from meterd.api import (
    alerts,
    commands,
    corrections,
    devices,
    energy,
    events,
    export,
    health,
    latest,
    openapi,
    page,
    pages,
    prometheus,
    renaming,
    series,
    silences,
    stream,
)
from meterd.api import range as history
from meterd.api.answer import EVENTS, ApiAnswer, ApiCall
from meterd.api.query import NoQuery
from meterd.api.route import Route

PREFIX = "/api/v1"


async def _openapi(call: ApiCall, query: NoQuery) -> ApiAnswer:
    return openapi.answer(ROUTES, call.base)


ROUTES: tuple[Route, ...] = (
    Route("/healthz", "Whether meterd is alive", health.alive, health.Alive, scope="open"),
    Route(
        "/readyz",
        "Whether the store is writable and every device was polled once",
        health.ready,
        health.Ready,
        refusals=(400, 503),
    ),
    Route(
        "/metrics",
        "Newest samples and meterd's own health, for Prometheus",
        prometheus.show,
        media=prometheus.MEDIA,
    ),
    Route("/openapi.json", "This description", _openapi, openapi.Document, tagged=True),
    Route("/", "The live page", page.index, media=(page.HTML,), tagged=True),
    Route("/docs", "This description for people", page.docs, media=(page.HTML,), tagged=True),
    Route(f"{PREFIX}/site", "Name, time zone and version", health.site, health.SiteInfo),
    Route(f"{PREFIX}/devices", "Every device", devices.list_all, devices.Devices),
    Route(
        f"{PREFIX}/devices/{{id}}", "One device", devices.show, devices.Device, refusals=(400, 404)
    ),
    Route(
        f"{PREFIX}/latest",
        "The newest sample of each series, with age and quality",
        latest.show,
        latest.LatestSamples,
        latest.LatestQuery,
        refusals=(400, 404, 503),
    ),
    Route(
        f"{PREFIX}/series",
        "Every series of the store",
        series.list_all,
        series.AllSeries,
        series.SeriesQuery,
        refusals=(400, 422, 503),
        tagged=True,
    ),
    Route(
        f"{PREFIX}/range",
        "History: the points of series between two times",
        history.show,
        history.RangeAnswer,
        history.RangeQuery,
        refusals=(400, 404, 422, 503),
        tagged=True,
    ),
    Route(
        f"{PREFIX}/energy",
        "Consumption by hour, day, week, month or year of the site's clock",
        energy.show,
        energy.Energy,
        energy.EnergyQuery,
        refusals=(400, 404, 422, 503),
    ),
    Route(
        f"{PREFIX}/export",
        "Every sample of a window, streamed",
        export.show,
        query=export.ExportQuery,
        media=tuple(export.MEDIA.values()),
        refusals=(400, 404, 422, 503),
    ),
    Route(
        f"{PREFIX}/corrections",
        "Intervals that somebody marked as invalid",
        corrections.list_all,
        corrections.CorrectionList,
        refusals=(400, 503),
    ),
    Route(
        f"{PREFIX}/corrections",
        "Mark an interval as invalid",
        corrections.mark,
        corrections.CorrectionRow,
        method="POST",
        body=corrections.Marking,
        refusals=(400, 404, 422, 503),
        scope="admin",
    ),
    Route(
        f"{PREFIX}/corrections/{{id}}/undo",
        "Put back what a correction marked",
        corrections.undo,
        corrections.CorrectionRow,
        method="POST",
        body=corrections.Undoing,
        refusals=(400, 404, 422, 503),
        scope="admin",
    ),
    Route(
        f"{PREFIX}/stream",
        "Server-sent events: the full state, then changes as they happen",
        stream.follow,
        query=stream.StreamQuery,
        media=(EVENTS,),
        refusals=(400, 404, 503),
    ),
    Route(
        f"{PREFIX}/alerts",
        "Alerts that are pending, firing, or resolved a short while ago",
        alerts.list_all,
        alerts.AllAlerts,
        pages.PageQuery,
        refusals=(400, 422),
    ),
    Route(
        f"{PREFIX}/alerts/{{id}}/ack",
        "Say that somebody knows of an alert",
        alerts.acknowledge,
        alerts.OneAck,
        method="POST",
        body=alerts.AckBody,
        refusals=(400, 404, 415, 422),
        scope="admin",
    ),
    Route(
        f"{PREFIX}/silences",
        "What hooks are not told of for a while",
        silences.list_all,
        silences.Silences,
    ),
    Route(
        f"{PREFIX}/silences",
        "Tell no hook of some alerts for a while",
        silences.add,
        silences.OneSilence,
        method="POST",
        body=silences.SilenceBody,
        status=201,
        refusals=(400, 404, 409, 415, 422),
        scope="admin",
    ),
    Route(
        f"{PREFIX}/silences/{{id}}",
        "End a silence early",
        silences.remove,
        silences.Removed,
        method="DELETE",
        refusals=(400, 404),
        scope="admin",
    ),
    Route(
        f"{PREFIX}/devices/{{id}}/commands",
        "Send a command that the configuration allows to a device",
        commands.send,
        commands.Done,
        method="POST",
        body=commands.CommandBody,
        refusals=(400, 404, 409, 415, 422, 503),
        scope="command",
    ),
    Route(
        f"{PREFIX}/devices/{{id}}/rename",
        "Give a device another name, with all its history",
        renaming.rename,
        renaming.Renamed,
        method="POST",
        body=renaming.Renaming,
        refusals=(400, 404, 409, 415, 422, 503),
        scope="admin",
    ),
    Route(
        f"{PREFIX}/devices/{{id}}/replace",
        "Say since when another meter is read as a device",
        renaming.replace,
        renaming.ReplacedMeter,
        method="POST",
        body=renaming.Replacing,
        refusals=(400, 404, 409, 415, 422, 503),
        scope="admin",
    ),
    Route(
        f"{PREFIX}/events",
        "What was noticed: devices down and back, rows left out, counters that jumped, reloads",
        events.list_all,
        events.Events,
        pages.PageQuery,
        refusals=(400, 422),
        tagged=True,
    ),
)

FILES = tuple(
    Route(path, "A file of the live page", function, media=(media,), listed=False)
    for path, media, function in page.files()
)
