#!/usr/bin/env python3
"""Takes the pictures of the dashboard in docs/dashboard.md.

Grafana is not needed: this script runs the service with two replicas, a scripted tenant and logins for some minutes, has a
real Prometheus scrape them, and draws the first rows of charts/session-checker/files/dashboard.json from their queries. The
series are real. The drawing is like Grafana's and not the same.

    cargo build --release
    pip install matplotlib==3.11.2; apt-get install prometheus
    python3 docs/images/dashboard.py --binary target/release/session-checker

It writes dashboard-light.png and dashboard-dark.png beside itself.
"""

import argparse
import collections
import datetime
import http.client
import http.server
import json
import pathlib
import random
import re
import subprocess
import tempfile
import textwrap
import threading
import time
import urllib.parse
import urllib.request

import matplotlib

matplotlib.use("Agg")
from matplotlib import dates, pyplot, ticker  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402

HERE = pathlib.Path(__file__).parent
CHART = HERE.parent.parent / "charts/session-checker/files"
DOMAIN = "acme.eu.auth0.com"
SCRAPE = 5  # seconds
LAST_ROW = "Decisions"  # the last row that is drawn, with the panels of its first lines
LAST_LINES = 16

# ---- The tenant and the logins ----------------------------------------------------------------------------------------

SECRETS = f"""
apiVersion: v1
kind: Secret
metadata: {{ name: tenant, namespace: login }}
type: sessionchecker.dev/credentials
stringData: {{ domain: {DOMAIN}, clientId: checker, clientSecret: checker-secret }}
---
apiVersion: v1
kind: Secret
metadata: {{ name: callers, namespace: login }}
type: sessionchecker.dev/callers
stringData: {{ action: a-token-of-the-picture }}
"""


def policy(name, spec):
    """A SessionPolicy of the tenant."""
    spec = textwrap.indent(textwrap.dedent(spec).strip(), "  ")
    return textwrap.dedent(f"""
        apiVersion: sessionchecker.dev/v1alpha1
        kind: SessionPolicy
        metadata: {{ name: {name}, namespace: login }}
        spec:
          tenant: {{ domain: {DOMAIN}, credentialsSecretRef: {{ name: tenant }} }}
          callerSecretRef: {{ name: callers }}
        """) + spec + "\n"


SHOP = "selector: {{ clientIds: [shop, shop-app] }}\nlimits: {{ perClient: {limit} }}\nadmissionWindow: 1s\nrecheckAfter: 0s"
BACK_OFFICE = "selector: { clientIds: [crm] }\nlimits: { perUser: 2 }\nstrategy: RevokeLeastRecentlyUsed\nrecheckAfter: 0s"
PARTNERS = "limits: { perUser: 1 }\nmode: Audit\nrecheckAfter: 0s"


class Tenant(http.server.BaseHTTPRequestHandler):
    """Answers the three calls of the service. Sessions end after a while, as if people logged out."""

    protocol_version = "HTTP/1.1"
    sessions = collections.defaultdict(dict)  # by user: (application, begin) by session
    fails = False
    lock = threading.Lock()

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-RateLimit-Limit", "50")
        self.send_header("X-RateLimit-Remaining", str(random.randint(30, 49)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/oauth/token":
            scope = "read:sessions delete:sessions delete:refresh_tokens"
            return self.answer(200, {"access_token": "t", "token_type": "Bearer", "expires_in": 86400, "scope": scope})
        ended = self.path.split("/")[4]
        with self.lock:
            for sessions in self.sessions.values():
                sessions.pop(ended, None)
        return self.answer(202, {})

    def do_GET(self):
        time.sleep(random.lognormvariate(-4, 0.6))
        if self.fails:
            return self.answer(500, {"statusCode": 500, "error": "Internal Server Error", "message": "down"})
        user = urllib.parse.unquote(self.path.split("/")[4])
        stamp = lambda at: datetime.datetime.fromtimestamp(at, datetime.timezone.utc).isoformat()  # noqa: E731
        with self.lock:
            listed = [
                {"id": sid, "user_id": user, "created_at": stamp(begin), "last_interacted_at": stamp(begin), "clients": [{"client_id": client}]}
                for sid, (client, begin) in self.sessions[user].items()
            ]
        return self.answer(200, {"sessions": listed})


def log_in(ports, minutes):
    """Logs people in, changes a policy, and lets Auth0 fail for a time. Yields the share of the time that has passed."""
    begin, number = time.time(), 0
    while (passed := (time.time() - begin) / (60 * minutes)) < 1:
        yield passed
        number += 1
        # More logins in the middle than at the ends.
        time.sleep(random.expovariate(6 + 22 * (1 - abs(2 * passed - 1))))
        client = random.choices(["shop", "shop-app", "crm", "partner-portal"], [5, 3, 2, 2])[0]
        user, sid = f"auth0|{random.randint(1, 160)}", f"session-{number}"
        body = {"user_id": user, "client_id": client, "sid": sid}
        # At the end, an Action that was copied from another tenant asks as well.
        if passed > 0.93 and random.random() < 0.15:
            body["tenant"] = "staging.eu.auth0.com"
        connection = http.client.HTTPConnection("127.0.0.1", random.choice(ports), timeout=10)
        connection.request("POST", "/check", json.dumps(body), {"Content-Type": "application/json", "Authorization": "Bearer a-token-of-the-picture"})
        answer = json.load(connection.getresponse())
        connection.close()
        with Tenant.lock:
            if not answer["block"]:
                Tenant.sessions[user][sid] = (client, time.time())
            for sessions in Tenant.sessions.values():
                for ended in [sid for sid, (_, since) in sessions.items() if time.time() - since > random.uniform(20, 90)]:
                    del sessions[ended]


def run(binary, minutes, folder):
    """Runs everything, and returns the URL of Prometheus when the time is over."""
    tenant = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tenant)
    threading.Thread(target=tenant.serve_forever, daemon=True).start()
    policies = folder / "policies"
    policies.mkdir()
    (policies / "secrets.yaml").write_text(SECRETS)
    (policies / "back-office.yaml").write_text(policy("back-office", BACK_OFFICE))
    (policies / "partners.yaml").write_text(policy("partners", PARTNERS))
    (policies / "shop.yaml").write_text(policy("shop", SHOP.format(limit=1)))
    ports, targets, started = [14001, 14002], [], []
    try:
        for number, port in enumerate(ports):
            started.append(subprocess.Popen(
                [binary, "serve", "--policy-dir", policies, "--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{port + 100}",
                 "--auth0-endpoint", f"{DOMAIN}=http://127.0.0.1:{tenant.server_port}", "--replicas", "2"],
                stdout=subprocess.DEVNULL, stderr=(folder / f"{port}.log").open("w")))
            targets.append({"targets": [f"127.0.0.1:{port + 100}"], "labels": {"namespace": "login", "pod": f"session-checker-{number}"}})
        (folder / "prometheus.yaml").write_text(json.dumps({
            "global": {"scrape_interval": f"{SCRAPE}s", "evaluation_interval": f"{SCRAPE}s"},
            "rule_files": [str(CHART / "rules.yaml")],
            "scrape_configs": [{"job_name": "session-checker", "static_configs": targets}],
        }))
        started.append(subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data", "--web.listen-address=127.0.0.1:14200"],
            stdout=subprocess.DEVNULL, stderr=(folder / "prometheus.log").open("w")))
        time.sleep(3 * SCRAPE)
        changed = False
        for passed in log_in(ports, minutes):
            Tenant.fails = 0.55 < passed < 0.62
            if passed > 0.3 and not changed:
                changed = True
                (policies / "shop.yaml").write_text(policy("shop", SHOP.format(limit=2)))
        yield "http://127.0.0.1:14200"
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(30)


# ---- The queries ------------------------------------------------------------------------------------------------------


class Queries:
    """Asks Prometheus as Grafana does, with "All" for each variable."""

    def __init__(self, url, minutes):
        self.url, self.minutes, self.end = url, minutes, time.time()

    def expand(self, expression):
        expression = re.sub(r"\$(cluster|namespace|job|tenant|policy)\b", ".*", expression)
        return expression.replace("$__rate_interval", f"{4 * SCRAPE}s").replace("$__range", f"{self.minutes}m")

    def ask(self, path, **parameters):
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        return json.load(urllib.request.urlopen(url))["data"]["result"]

    def instant(self, expression):
        return [(it["metric"], float(it["value"][1])) for it in self.ask("query", query=self.expand(expression), time=self.end)]

    def range(self, expression):
        begin = self.end - 60 * self.minutes
        found = self.ask("query_range", query=self.expand(expression), start=begin, end=self.end, step=SCRAPE)
        return [(it["metric"], [(float(at), float(value)) for at, value in it["values"]]) for it in found]


def legend(template, metric):
    return re.sub(r"{{(\w+)}}", lambda match: metric.get(match[1], ""), template).strip() or "value"


# ---- The drawing ------------------------------------------------------------------------------------------------------

THEMES = {
    "light": {"page": "#f4f5f5", "panel": "#ffffff", "edge": "#e0e2e6", "text": "#24292e", "dim": "#6b7280", "grid": "#e8e9ec",
              "green": "#1a7f37", "orange": "#b45309", "red": "#c62828", "blue": "#1f5fbf", "purple": "#8250df"},
    "dark": {"page": "#111217", "panel": "#181b1f", "edge": "#2c3235", "text": "#d5d7dc", "dim": "#9aa0a8", "grid": "#2a2d33",
             "green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "blue": "#6ea6ff", "purple": "#b877d9"},
}
LINES = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#37872d", "#c4a000", "#1f60c4", "#fa6400"]
COLUMN, LINE = 0.64, 0.36  # inches of a column and a line of the dashboard's grid


def number(value, unit):
    if value != value:
        return "–"
    if unit == "percentunit":
        return f"{100 * value:.1f} %"
    if unit == "s":
        return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.2f} s"
    if unit == "reqps":
        return f"{value:.2f}/s" if value < 10 else f"{value:.0f}/s"
    return f"{value:,.0f}"


def properties(panel, name):
    """What the overrides of a panel say of a series."""
    found = {}
    for override in panel["fieldConfig"]["overrides"]:
        matcher = override["matcher"]
        matches = name == matcher["options"] if matcher["id"] == "byName" else re.fullmatch(str(matcher["options"]), name)
        if matches:
            found.update({it["id"]: it["value"] for it in override["properties"]})
    return found


class Picture:
    def __init__(self, panels, theme, queries):
        self.colors, self.queries = THEMES[theme], queries
        self.lines = max(it["gridPos"]["y"] + it["gridPos"]["h"] for it in panels)
        self.figure = pyplot.figure(figsize=(24 * COLUMN, self.lines * LINE), dpi=100, facecolor=self.colors["page"])
        for panel in panels:
            self.draw(panel)

    def box(self, panel):
        """The rectangle of a panel in inches from the lower left corner: x, y, width, height."""
        at, gap = panel["gridPos"], 0.05
        return at["x"] * COLUMN + gap, (self.lines - at["y"] - at["h"]) * LINE + gap, at["w"] * COLUMN - 2 * gap, at["h"] * LINE - 2 * gap

    def axes(self, x, y, width, height):
        total = 24 * COLUMN, self.lines * LINE
        return self.figure.add_axes((x / total[0], y / total[1], width / total[0], height / total[1]))

    def write(self, x, y, text, **style):
        total = 24 * COLUMN, self.lines * LINE
        style = {"color": self.colors["text"], "fontsize": 8.5, "va": "center", **style}
        self.figure.text(x / total[0], y / total[1], text, **style)

    def draw(self, panel):
        x, y, width, height = self.box(panel)
        if panel["type"] == "row":
            return self.write(x + 0.05, y + height / 2, "▾  " + panel["title"], fontsize=10.5, weight="bold")
        background = self.axes(x, y, width, height)
        background.set(xticks=[], yticks=[], facecolor=self.colors["panel"])
        for spine in background.spines.values():
            spine.set_color(self.colors["edge"])
        self.write(x + 0.1, y + height - 0.16, panel["title"], weight="bold", fontsize=8.5 if width > 2 else 8)
        return {"stat": self.stat, "table": self.table, "timeseries": self.series}[panel["type"]](panel, x, y, width, height)

    def stat(self, panel, x, y, width, height):
        defaults, values = panel["fieldConfig"]["defaults"], []
        for target in panel["targets"]:
            values += [(legend(target["legendFormat"], metric), value) for metric, value in self.queries.instant(target["expr"])]
        has_name = panel["options"]["textMode"] == "value_and_name"
        if panel["options"]["textMode"] == "value_and_name" and len(values) > 1:
            values = sorted(values, key=lambda it: -it[1]) if panel["title"].startswith("Allowed") else values
        for place, (name, value) in enumerate(values):
            own = properties(panel, name)
            color = next(step["color"] for step in reversed(defaults["thresholds"]["steps"]) if step["value"] is None or value >= step["value"])
            shown = number(value, defaults["unit"])
            for mapping in own.get("mappings", defaults.get("mappings", [])):
                mapped = mapping["options"].get(f"{value:g}")
                if mapped:
                    shown, color = mapped["text"], mapped.get("color", color)
            center, middle = x + (place + 0.5) * width / len(values), y + (height - 0.25) / 2
            color = self.colors.get(color, self.colors["text"])
            self.write(center, middle - (0.08 if has_name else 0), shown, ha="center", color=color, fontsize=19 if len(values) < 2 or width > 5 else 15, weight="bold")
            if has_name:
                self.write(center, middle + 0.3, own.get("displayName", name), ha="center", color=self.colors["dim"], fontsize=9 if width > 5 else 7.5)

    def table(self, panel, x, y, width, height):
        organize = next(it["options"] for it in panel["transformations"] if it["id"] == "organize")
        rows = [{**metric, "Value": value} for metric, value in self.queries.instant(panel["targets"][0]["expr"])]
        columns = [it for it in organize["indexByName"] if not organize["excludeByName"].get(it) and any(row.get(it) not in (None, "") for row in rows)]
        step = (width - 0.2) / max(len(columns), 1)
        for place, column in enumerate(columns):
            left = x + 0.1 + place * step
            self.write(left, y + height - 0.45, organize["renameByName"].get(column, column), color=self.colors["dim"], fontsize=8)
            for line, row in enumerate(rows[: int((height - 0.6) / 0.23)]):
                value = row.get(column, "")
                shown = number(value, panel["fieldConfig"]["defaults"]["unit"]) if isinstance(value, float) else value
                color = {"firing": "red", "pending": "orange", "no alert": "green"}.get(value, "text")
                self.write(left, y + height - 0.7 - 0.23 * line, shown, fontsize=8, color=self.colors[color])

    def series(self, panel, x, y, width, height):
        defaults = panel["fieldConfig"]["defaults"]
        found = []
        for target in panel["targets"]:
            found += [(legend(target["legendFormat"], metric), values) for metric, values in self.queries.range(target["expr"])]
        found.sort(key=lambda it: -max((value for _, value in it[1] if value == value), default=0))
        shown = found[:6]
        below = 0.2 * ((len(shown) + 1) // 2) + 0.12
        axes = self.axes(x + 0.55, y + below + 0.24, width - 0.7, height - below - 0.6)
        axes.set_facecolor(self.colors["panel"])
        moment = lambda at: datetime.datetime.fromtimestamp(at)  # noqa: E731
        for place, (name, values) in enumerate(shown):
            color, dashed = LINES[place % len(LINES)], "custom.lineStyle" in properties(panel, name)
            times, numbers = [moment(at) for at, _ in values], [value for _, value in values]
            axes.plot(times, numbers, color=color, linewidth=1.2, linestyle="--" if dashed else "-")
            if not dashed:
                axes.fill_between(times, numbers, color=color, alpha=0.1, linewidth=0)
            left, bottom = x + 0.15 + (place % 2) * (width - 0.2) / 2, y + 0.12 + 0.2 * ((len(shown) - 1) // 2 - place // 2)
            last = next((value for value in reversed(numbers) if value == value), float("nan"))
            self.write(left, bottom, "━", color=color, fontsize=9)
            room = int((width / 2 - 0.75) / 0.063)
            short = name if len(name) <= room else name[: room - 1] + "…"
            self.write(left + 0.2, bottom, f"{short}  {number(last, defaults['unit'])}", color=self.colors["dim"], fontsize=7.5)
        if defaults.get("custom", {}).get("thresholdsStyle", {}).get("mode", "off") != "off":
            for step in defaults["thresholds"]["steps"][1:]:
                axes.axhline(step["value"], color=self.colors["red"], linestyle=":", linewidth=1)
        for name, at in self.annotations():
            axes.axvline(moment(at), color=self.colors["purple"], linestyle=(0, (3, 2)), linewidth=1)
        axes.set_xlim(moment(self.queries.end - 60 * self.queries.minutes), moment(self.queries.end))
        top = axes.get_ylim()[1]
        axes.set_ylim(0, defaults.get("max") or max(top, 1e-9))
        axes.yaxis.set_major_locator(ticker.MaxNLocator(4))
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %" if defaults["unit"] == "percentunit" else f"{value:g}")
        axes.xaxis.set_major_locator(dates.AutoDateLocator(maxticks=6))
        axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
        axes.tick_params(colors=self.colors["dim"], labelsize=7, length=0)
        axes.grid(color=self.colors["grid"], linewidth=0.6)
        for spine in axes.spines.values():
            spine.set_visible(False)

    def annotations(self):
        for annotation in ANNOTATIONS:
            for _, values in self.queries.range(annotation["expr"]):
                before = None
                for at, _ in values:
                    if before is None or at - before > 2 * SCRAPE:
                        yield annotation["name"], at
                    before = at


DASHBOARD = json.loads((CHART / "dashboard.json").read_text())
ANNOTATIONS = [it for it in DASHBOARD["annotations"]["list"] if it["name"].startswith("Polic")]


def first_panels():
    panels = DASHBOARD["panels"]
    last = next(it for it in panels if it["type"] == "row" and it["title"] == LAST_ROW)["gridPos"]["y"]
    return [it for it in panels if it["gridPos"]["y"] + it["gridPos"]["h"] <= last + 1 + LAST_LINES]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--minutes", type=int, default=15)
    arguments = parser.parse_args()
    random.seed(7)
    pyplot.rcParams["font.family"] = "DejaVu Sans"
    with tempfile.TemporaryDirectory() as folder:
        for url in run(arguments.binary, arguments.minutes, pathlib.Path(folder)):
            queries = Queries(url, arguments.minutes)
            for theme in THEMES:
                picture = Picture(first_panels(), theme, queries)
                picture.figure.savefig(HERE / f"dashboard-{theme}.png", facecolor=picture.colors["page"])


if __name__ == "__main__":
    main()
