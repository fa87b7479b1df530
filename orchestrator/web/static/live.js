// Patches numbers as text, lets htmx fetch the sections whose structure changed, and says how old everything is.
// Without this file every page still reads and every form still works.
"use strict";

(() => {
  const body = document.body;
  if (!body || !body.dataset.liveWorker) return;
  const STALE_MS = 5000;
  const LOST_MS = 30000;
  const STRUCTURE = ["position", "signals", "approvals", "status", "panic", "settings", "scan"];
  const SAID = ["position", "approvals", "panic", "notice"];
  const heard = {};        // event name -> page clock when it last came
  const symbols = {};      // symbol -> page clock at which its price was new
  const latest = { t: {}, s: {}, x: {} };
  let offset = Date.parse(body.dataset.serverNow) - Date.now();
  let lastEvent = 0;
  let connection = "none";
  let retryAt = 0;
  let poller = 0;
  let talk = () => {};

  const serverNow = () => Date.now() + offset;
  const words = (ms) => {
    const s = Math.max(0, Math.floor(ms / 1000));
    if (s >= 86400) return Math.floor(s / 86400) + " d";
    if (s >= 3600) return Math.floor(s / 3600) + " h";
    return s >= 60 ? Math.floor(s / 60) + " min" : s + " s";
  };

  // --- patches: text, sign and place, by key -------------------------------------------------------------------------------
  function patchIn(root) {
    for (const node of root.querySelectorAll("[data-live]")) {
      const key = node.dataset.live;
      if (key in latest.t && node.textContent !== latest.t[key]) node.textContent = latest.t[key];
      if (key in latest.s && node.dataset.sign !== latest.s[key]) node.dataset.sign = latest.s[key];
    }
    for (const node of root.querySelectorAll("[data-x]")) if (node.dataset.x in latest.x) node.setAttribute("x", latest.x[node.dataset.x]);
  }

  function patch(data) {
    for (const part of ["t", "s", "x"]) Object.assign(latest[part], data[part] || {});
    patchIn(document);
  }

  // --- structure: htmx asks again ------------------------------------------------------------------------------------------
  const fire = (name) => body.dispatchEvent(new CustomEvent("live:" + name));

  function announce(text, urgent) {
    if (!text) return;
    const toast = document.getElementById("toast");
    if (urgent) document.getElementById("alarm").textContent = text;
    if (!toast) return;
    toast.textContent = text.replaceAll("\u2212", "\u2212\u2060");   // a browser would break the line after the minus sign
    toast.hidden = false;
    clearTimeout(announce.timer);
    announce.timer = setTimeout(() => { toast.hidden = true; }, urgent ? 12000 : 4000);
  }

  // --- events --------------------------------------------------------------------------------------------------------------
  let seen = Number(body.dataset.rev) || 0;   // the newest structural event that what stands on the page knows of

  function onHello(data, rev) {
    const newest = Math.max(rev || 0, data.rev || 0);
    if (newest > seen && !data.resumed) fire("reset");
    seen = Math.max(seen, newest);
  }

  function onEvent(name, data, rev) {
    lastEvent = Date.now();
    heard[name] = lastEvent;
    if (connection !== "live" && name !== "bye") setConnection("live");
    if (data.server_now) offset = Date.parse(data.server_now) - Date.now();
    if (name === "hello") return onHello(data, rev);
    if (name === "bye") return onBye(data);
    if (name === "reset") return fire("reset");
    for (const [symbol, price] of Object.entries(data.prices || {})) symbols[symbol] = Date.now() - (price.age_ms || 0);
    if (data.t || data.s || data.x) patch(data);
    if (STRUCTURE.includes(name)) { fire(name); seen = Math.max(seen, rev || 0); }
    if (["balance", "whales", "equity"].includes(name)) fire(name);
    if (name === "settings") onSettings(data);
    if (SAID.includes(name)) announce(data.say || data.text, name === "panic" || data.level === "alert");
  }

  function onSettings(data) {
    const form = document.querySelector("[data-settings]");
    const version = data.rev || data.version || Infinity;   // one without a number switched auto-trading, which this page shows too
    if (form && version > Number(form.dataset.settings)) document.getElementById("changed-elsewhere").hidden = false;
  }

  let leaving = false;   // somebody logs out here: the form's own answer says so, and must not be overtaken
  document.addEventListener("submit", (event) => { if (event.target.action.endsWith("/logout")) leaving = true; });

  function onBye(data) {
    if (leaving) return;
    if (data.reason === "signed_out" || data.reason === "revoked") location.assign("/login?say=login");
  }

  function onMessage(message) {
    if (message.kind === "event") return onEvent(message.name, message.data, message.rev);
    retryAt = Date.now() + message.retryMs;
    setConnection(message.polling ? "polling" : "lost");
  }

  // --- what the page says about its own freshness --------------------------------------------------------------------------
  function setConnection(state) {
    if (state === "live" && connection === "polling") fire("reset");
    connection = state;
    if (state === "polling" && !poller) poller = setInterval(poll, 5000);
    if (state === "live" && poller) { clearInterval(poller); poller = 0; }
    tick();
  }

  async function poll() {
    if (document.hidden) return;
    try {
      const reply = await fetch("/dashboard/_/tick", { headers: { Accept: "application/json" }, redirect: "manual" });
      if (reply.type === "opaqueredirect" || reply.status === 401) return location.assign("/login?say=login");
      if (!reply.ok) return;
      const data = await reply.json();
      heard.positions = lastEvent = Date.now();
      for (const [symbol, price] of Object.entries(data.prices || {})) symbols[symbol] = Date.now() - (price.age_ms || 0);
      patch(data);
      fire("reset");
    } catch { /* the strip says that the link is lost */ }
  }

  function tick() {
    const now = Date.now();
    const state = document.getElementById("link-state");
    const quiet = lastEvent ? now - lastEvent : 0;
    body.dataset.connection = connection === "live" && quiet > LOST_MS ? "lost" : connection;
    if (state) state.textContent = { live: "Live", polling: "Polling", none: "Connecting" }[connection] || "Lost " + words(quiet);
    const strip = document.getElementById("lost");
    if (strip) {
      const show = (connection === "lost" && quiet > 2500) || connection === "polling";
      strip.hidden = !show;
      const next = Math.max(0, Math.ceil((retryAt - now) / 1000));
      document.getElementById("lost-says").textContent = connection === "polling"
        ? "The numbers are asked for every 5 seconds instead."
        : `Numbers below are ${words(quiet)} old. Stops do not need this page. Trying again in ${next} s.`;
    }
    for (const node of document.querySelectorAll("[data-age]")) {
      const at = heard[node.dataset.age];
      if (at) node.textContent = words(now - at) + " ago";
    }
    for (const node of document.querySelectorAll("[data-since]")) {
      node.textContent = words(serverNow() - Date.parse(node.dataset.since)) + " ago";
    }
    for (const node of document.querySelectorAll("[data-symbol]")) {
      const at = symbols[node.dataset.symbol];
      if (!at) continue;
      node.dataset.state = now - at > LOST_MS ? "lost" : now - at > STALE_MS ? "stale" : "fresh";
      for (const says of node.querySelectorAll("[data-price-age]")) {
        says.hidden = node.dataset.state === "fresh";
        says.textContent = says.hidden ? "" : (node.dataset.state === "lost" ? "no price for " : "price is old: ") + words(now - at);
      }
    }
    for (const node of document.querySelectorAll("[data-until]")) {
      const left = Date.parse(node.dataset.until) - serverNow();
      node.textContent = left > 0 ? Math.floor(left / 60000) + ":" + String(Math.floor(left / 1000) % 60).padStart(2, "0") : "expired";
    }
  }

  // --- the link ------------------------------------------------------------------------------------------------------------
  function throughWorker() {
    const worker = new SharedWorker(body.dataset.liveWorker, { name: body.dataset.liveName });
    worker.port.onmessage = ({ data }) => onMessage(data);
    worker.port.start();
    worker.onerror = alone;
    talk = (text) => worker.port.postMessage(text);
    addEventListener("pagehide", () => talk("leave"));
  }

  function alone() {
    const script = document.createElement("script");
    script.src = body.dataset.liveWorker;
    script.onload = () => {
      const stream = new self.NeuroTradeLiveStream(onMessage);
      const follow = () => (document.hidden ? stream.close() : stream.open());
      talk = () => follow();
      follow();
    };
    document.head.append(script);
  }

  document.addEventListener("visibilitychange", () => talk("wake"));
  document.addEventListener("htmx:afterSwap", (event) => { patchIn(event.target.parentNode || document); tick(); });
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  setInterval(tick, 1000);
  tick();
  if (typeof SharedWorker === "undefined") alone();
  else throughWorker();
})();
