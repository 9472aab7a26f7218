"""Prediction over HTTP: an API for programs and a page for people; needs the extra `serve`.

A request is read (`reading`), its molecules get geometries in worker processes (`geometries`), and the molecules of all
requests that wait at the same time go through the model together (`batcher`). `app` has the addresses, `guard` the
limits that hold for all of them.
"""
