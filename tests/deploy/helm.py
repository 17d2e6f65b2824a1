"""Renders and lints a chart with Helm's own code, which scripts/setup fetches from PyPI.

usage: helm.py CHART NAME NAMESPACE < VALUES.json > {"rendered": {FILE: TEXT}, "lint": [MESSAGE]} or {"error": TEXT}
"""

import json
import sys

import helm_python as helm

chart, name, namespace = sys.argv[1:]
values = json.load(sys.stdin)
try:
    with helm.Chart.load(chart) as loaded:
        loaded.validate_schema(values)
        rendered = loaded.render(values, name=name, namespace=namespace, is_install=True)
    lint = helm.lint(chart, values, strict=True, namespace=namespace)
    messages = [message["error"] for message in lint["messages"] if message["severity"] > 1] + lint["errors"]
    print(json.dumps({"rendered": rendered, "lint": messages}))
except helm.HelmError as error:
    print(json.dumps({"error": str(error)}))
