#!/usr/bin/env python3
"""Makes land.path of world-atlas' land-110m.json (public-domain data of Natural Earth).

    npm pack world-atlas@2 && tar xzf world-atlas-2*.tgz
    ./land.py package/land-110m.json > land.path

One SVG path over the whole earth, equirectangular: 1440 by 720 units of a quarter of a degree,
longitude -180 and latitude 90 at the origin.
"""

import json
import sys

WIDTH, HEIGHT = 1440, 720


def arcs_of(topology):
    scale, translate = topology["transform"]["scale"], topology["transform"]["translate"]
    for arc in topology["arcs"]:
        x = y = 0
        points = []
        for dx, dy in arc:
            x, y = x + dx, y + dy
            longitude = x * scale[0] + translate[0]
            latitude = y * scale[1] + translate[1]
            points.append((round((longitude + 180) * 4), round((90 - latitude) * 4)))
        yield points


def ring_of(indices, arcs):
    points = []
    for index in indices:
        arc = arcs[index] if index >= 0 else arcs[~index][::-1]
        points.extend(arc[1:] if points else arc)
    return points


def unwrapped(points):
    """A ring that leaves the map on one side goes on beyond its edge."""
    shift, last, ring = 0, points[0][0], []
    for x, y in points:
        if abs(x - last) > WIDTH / 2:
            shift += WIDTH if x < last else -WIDTH
        last = x
        ring.append((x + shift, y))
    return ring


def paths_of(points):
    # Neighbours that fall together at this scale, and the closing point, add nothing.
    kept = []
    for point in unwrapped(points):
        if not kept or point != kept[-1]:
            kept.append(point)
    if kept[0] == kept[-1]:
        kept.pop()
    elif abs(kept[0][0] - kept[-1][0]) == WIDTH:
        # Once around the earth: it is closed along the south pole.
        kept += [(kept[-1][0], HEIGHT), (kept[0][0], HEIGHT)]
    if len(kept) < 3:
        return ""
    xs = [x for x, _ in kept]
    # What lies beyond an edge is there on the other side, too.
    shifts = [by for by in (-WIDTH, 0, WIDTH) if min(xs) + by < WIDTH and max(xs) + by > 0]
    return "".join(path_of([(x + by, y) for x, y in kept]) for by in shifts)


def path_of(kept):
    steps = [f"{x2 - x1} {y2 - y1}" for (x1, y1), (x2, y2) in zip(kept, kept[1:])]
    return f"M{kept[0][0]} {kept[0][1]}l" + " ".join(steps).replace(" -", "-") + "z"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        topology = json.load(file)
    arcs = list(arcs_of(topology))
    (land,) = topology["objects"]["land"]["geometries"]
    rings = (ring for polygon in land["arcs"] for ring in polygon)
    print("".join(paths_of(ring_of(ring, arcs)) for ring in rings))


main()
