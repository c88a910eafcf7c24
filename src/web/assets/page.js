// Keeps a page up to date by the events of data-live-from. Without it the page is as it was when
// it was loaded. Elements say by data-live (text) and data-live-NAME (attribute) what they show.
"use strict";

(() => {
  const attributes = ["d", "transform", "value", "datetime", "state"];
  const from = document.body.dataset.liveFrom;
  const connection = document.getElementById("connection");
  let source = null;
  let fetching = false;

  const localize = (root) => {
    for (const time of root.querySelectorAll("time[datetime]")) {
      time.title = new Date(time.dateTime).toLocaleString() + " here";
    }
  };

  const say = (words) => {
    if (connection.textContent !== words) connection.textContent = words;
  };

  const show = (texts) => {
    for (const element of document.querySelectorAll("[data-live]")) {
      const text = texts[element.dataset.live];
      if (text !== undefined) element.textContent = text;
    }
    for (const name of attributes) {
      const key = "live" + name[0].toUpperCase() + name.slice(1);
      for (const element of document.querySelectorAll(`[data-live-${name}]`)) {
        const text = texts[element.dataset[key]];
        if (text === undefined) continue;
        element.setAttribute(name === "state" ? "data-state" : name, text);
        if (name === "datetime") element.title = new Date(text).toLocaleString() + " here";
      }
    }
  };

  const renew = async (names) => {
    if (fetching) return;
    fetching = true;
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const name of names) {
        const fresh = page.getElementById(name);
        const old = document.getElementById(name);
        // What somebody reads with the keyboard stays under the hand.
        if (!fresh || !old || old.contains(document.activeElement)) continue;
        old.replaceWith(fresh);
        localize(fresh);
      }
    } catch {
      // The next event tries again.
    } finally {
      fetching = false;
    }
  };

  const hear = (event) => {
    const { texts, shapes } = JSON.parse(event.data);
    show(texts);
    const others = Object.keys(shapes).filter((name) => {
      const section = document.getElementById(name);
      return section && section.dataset.shape !== shapes[name];
    });
    if (others.length > 0) renew(others);
  };

  const open = () => {
    if (source || document.hidden) return;
    source = new EventSource(from);
    source.onopen = () => say("live");
    source.onmessage = hear;
    source.onerror = () => {
      say("not live: the connection is lost, trying again");
      // A refusal, as where too many look, is final for the browser, but not for us.
      if (source.readyState === EventSource.CLOSED) {
        source = null;
        setTimeout(open, 5000);
      }
    };
  };

  // Nobody looks: nothing is asked for.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) return open();
    source?.close();
    source = null;
  });

  const cell = (row, name, content) => {
    const cell = row.insertCell();
    cell.className = name;
    cell.append(content);
  };

  const code = (text) => {
    const code = document.createElement("code");
    const isolated = document.createElement("bdi");
    isolated.textContent = text ?? "none";
    code.append(isolated);
    return code;
  };

  const fill = (row, record) => {
    const link = document.createElement("a");
    link.href = `/message?partition=${record.partition}&offset=${record.offset}`;
    link.textContent = record.offset;
    cell(row, "", record.time);
    cell(row, "n", record.partition);
    cell(row, "n", link);
    cell(row, "", code(record.key));
    cell(row, "value", code(record.value));
    cell(row, "n", record.size);
  };

  // A search tells how far it is and can be stopped; without this the form just waits for it.
  const search = (place, form) => {
    const [bar, said, stop] = place.children;
    const table = document.getElementById("records");
    let source = null;

    const end = (words) => {
      source?.close();
      source = null;
      stop.hidden = true;
      said.textContent = words;
    };

    form.onsubmit = (event) => {
      const asked = new URLSearchParams(new FormData(form));
      if (!asked.get("text")) return;
      event.preventDefault();
      source?.close();
      history.replaceState(null, "", `?${asked}`);
      table.replaceChildren();
      place.hidden = stop.hidden = false;
      bar.value = 0;
      said.textContent = "searching";
      source = new EventSource(`${place.dataset.from}?${asked}`);
      source.addEventListener("progress", (event) => {
        const { scanned, of, found } = JSON.parse(event.data);
        bar.value = of > 0 ? scanned / of : 1;
        said.textContent = `${scanned.toLocaleString()} of ${of.toLocaleString()} offsets searched, ${found.toLocaleString()} found`;
      });
      source.addEventListener("found", (event) => {
        const { records, cut } = JSON.parse(event.data);
        for (const record of records) fill(table.insertRow(), record);
        bar.value = 1;
        end(cut ?? `${records.length.toLocaleString()} records hold it`);
      });
      source.addEventListener("failed", (event) => end(`ended, ${JSON.parse(event.data)}`));
      source.onerror = () => end("ended: it was refused, or the connection is lost");
    };
    stop.onclick = () => end("stopped");
  };

  // The records as they come: a ring of rows, painted once a frame.
  const follow = (place) => {
    const rows = 300;
    const button = place.querySelector("button");
    const said = place.querySelector("span");
    const table = document.getElementById("records");
    const partition = place.dataset.partition;
    let source = null;
    let waiting = [];
    let seen = 0;
    let dropped = 0;
    let isPainting = false;

    const tell = (words) => {
      const missed = dropped > 0 ? `, ${dropped.toLocaleString()} came too fast to be shown` : "";
      said.textContent = `${words}: ${seen.toLocaleString()} records${missed}`;
    };

    const paint = () => {
      isPainting = false;
      for (const record of waiting.splice(0)) fill(table.insertRow(0), record);
      while (table.rows.length > rows) table.deleteRow(-1);
      tell("following");
    };

    const close = (words) => {
      source.close();
      source = null;
      button.textContent = "Follow";
      tell(words);
    };

    const open = () => {
      source = new EventSource(place.dataset.from);
      button.textContent = "Pause";
      tell("following");
      source.onmessage = (event) => {
        const record = JSON.parse(event.data);
        if (partition !== undefined && String(record.partition) !== partition) return;
        seen += 1;
        waiting.push(record);
        if (waiting.length > rows) {
          waiting.shift();
          dropped += 1;
        }
        if (!isPainting) requestAnimationFrame(paint);
        isPainting = true;
      };
      source.addEventListener("dropped", (event) => {
        dropped += Number(event.data);
        tell("following");
      });
      source.addEventListener("failed", (event) => close(`ended, ${JSON.parse(event.data)}`));
      source.onerror = () => close("ended, the connection is lost");
    };

    button.onclick = () => (source ? close("paused") : open());
    place.hidden = false;
  };

  const form = document.querySelector("form");
  if (form) search(document.getElementById("search"), form);
  const place = document.getElementById("tail");
  if (place) follow(place);
  localize(document);
  if (from) open();
})();
