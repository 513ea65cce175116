"use strict";
(() => {
  const INTERVAL = 5000, PATIENCE = 10000, OUTDATED_SECONDS = 10;

  // When the request of what is shown was sent, by the clock that counts from the navigation: an age is never too small.
  let sent = 0;
  let generation = 0, timer;

  const main = () => document.querySelector("main");
  const selection = () => (getSelection().isCollapsed ? null : getSelection());

  const duration = (seconds) => {
    let rest = Math.floor(seconds);
    const parts = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]].map(([unit, size]) => {
      const number = Math.floor(rest / size);
      rest -= number * size;
      return number ? `${number}${unit}` : "";
    });
    const first = parts.findIndex((part) => part);
    return first < 0 ? "0s" : parts.slice(first, first + 2).join("");
  };
  const age = (seconds) =>
    seconds <= -1 ? `${duration(-seconds)} in the future` : `${duration(Math.max(seconds, 0))} ago`;

  const tick = () => {
    const elapsed = (performance.now() - sent) / 1000;
    if (elapsed > OUTDATED_SECONDS && !main().classList.contains("outdated")) {
      warn(selection() ? "Paused while text is selected." : "The Admin API has not answered yet.");
    }
    const live = main().classList.contains("outdated") ? "#reading [data-seconds]" : "[data-seconds]";
    // Once, and not for each element: it makes the browser lay out the page, which each new text invalidates.
    const selected = selection();
    for (const element of document.querySelectorAll(live)) {
      if (selected?.containsNode(element, true) && !element.closest("#reading")) continue;
      const seconds = Number(element.dataset.seconds) + elapsed;
      const text = "age" in element.dataset ? age(seconds) : duration(seconds);
      if (element.textContent !== text) element.textContent = text;
    }
  };

  // The title stands for the page in a tab that nobody sees: it has no count or state that is not current.
  const retitle = () => {
    document.title = document.title.replace(/[^·]*(?= · Amp workers$)/, " outdated").trim();
  };

  // What is shown is grey from now on, until an answer replaces it.
  const warn = (text, detail = "") => {
    retitle();
    const [line, more] = main().querySelectorAll("#reading p");
    main().classList.add("outdated");
    main().querySelector("#reading").className = "alarm";
    line.replaceChildren(`${text} The page shows the answer of `);
    const since = document.createElement("span");
    Object.assign(since.dataset, { seconds: 0, age: "" });
    line.append(since);
    more.textContent = more.title = detail;
    tick();
  };

  const announce = (before, after) => {
    const counts = (page) =>
      new Map([...page.querySelectorAll("[data-state]")].map((each) => [each.dataset.state, each.dataset.count]));
    const old = counts(before);
    const changed = [...counts(after)].filter(([state, count]) => old.get(state) !== count);
    const alarm = after.querySelector("#reading.alarm p");
    const texts = changed.map(([state, count]) => `${state}: ${count}, was ${old.get(state) ?? "another state"}`);
    if (alarm && !before.querySelector("#reading.alarm")) texts.unshift(alarm.textContent);
    if (texts.length) document.querySelector("#changes").textContent = texts.join("; ");
  };

  const show = (page) => {
    const before = main(), after = page.querySelector("main");
    const focused = before.contains(document.activeElement) ? document.activeElement.id : null;
    const position = [scrollX, scrollY];
    announce(before, after);
    before.replaceWith(after);
    document.title = page.title;
    if (focused) (document.getElementById(focused) ?? after).focus({ preventScroll: true });
    scrollTo({ left: position[0], top: position[1], behavior: "instant" });
  };

  const schedule = (milliseconds) => {
    clearTimeout(timer);
    timer = setTimeout(refresh, milliseconds);
  };

  const refresh = async () => {
    if (document.hidden) return;
    if (selection()) return schedule(500);
    const own = ++generation, now = performance.now();
    let next = INTERVAL;
    try {
      const url = location.origin + location.pathname + location.search; // without credentials, which fetch refuses
      const response = await fetch(url, { signal: AbortSignal.timeout(PATIENCE) });
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      if (own !== generation) return; // sent before the tab was hidden
      const fresh = page.querySelector("main[data-refresh]");
      if (!fresh) {
        const reason = page.querySelector("#message")?.textContent ?? "";
        warn(`The Admin API answers with status ${response.status}.`, reason);
      } else if (page.documentElement.dataset.build !== document.documentElement.dataset.build) {
        location.reload();
      } else if (selection()) {
        next = 500;
      } else {
        next = Number(fresh.dataset.refresh) + 500 * Math.random();
        sent = now;
        show(page);
      }
    } catch (error) {
      if (own !== generation) return;
      warn("The Admin API does not answer.", `${error.message}`);
    }
    schedule(next);
  };

  const restart = (reason) => {
    clearTimeout(timer);
    generation++;
    if (document.hidden) return retitle();
    warn(reason);
    refresh();
  };

  document.addEventListener("visibilitychange", () => restart("Waiting for the first answer since this tab was shown."));

  // The clock of performance.now() stands still while a machine sleeps: the age of what is shown is then unknown.
  const ahead = () => Date.now() - performance.now();
  let wasAhead = ahead();
  const watchClock = () => {
    const moved = Math.abs(ahead() - wasAhead) > 2000;
    wasAhead = ahead();
    if (moved) restart("Waiting for the first answer since this machine slept or its clock was set.");
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
    const step = { j: 1, k: -1 }[event.key];
    if (event.key === "/" && document.querySelector("#search")) {
      document.querySelector("#search").select();
      event.preventDefault();
    } else if (step) {
      const links = [...document.querySelectorAll("td.node_id a")];
      const index = links.indexOf(document.activeElement);
      links.at(index < 0 ? 0 : Math.min(Math.max(index + step, 0), links.length - 1))?.focus();
    }
  });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const command = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(command); // a browser has a clipboard for https and localhost alone
    }
  });

  document.documentElement.classList.add("script");
  setInterval(() => {
    watchClock();
    tick();
  }, 1000);
  schedule(Number(main().dataset.refresh));
})();
