// Holds the one event stream of a login for all its tabs. As a SharedWorker it serves ports; live.js also runs it inside a page
// where SharedWorker is missing. It decides nothing: messages go to every page as they came, with the last id kept for resuming.
"use strict";

const EVENTS = ["hello", "ping", "prices", "positions", "balance", "position", "signals", "approvals", "status", "panic", "whales",
  "equity", "candle", "settings", "notice", "scan", "reset", "bye"];
const SILENCE_MS = 25000;
const REFUSALS_BEFORE_POLLING = 3;

class LiveStream {
  constructor(tell) {
    this.tell = tell;
    this.lastId = "";
    this.refusals = 0;
    this.ended = false;
    this.heard = 0;
    this.hello = null;
    this.source = null;
    this.timer = 0;
    this.watch = setInterval(() => this.check(), 5000);
  }

  open() {
    if (this.ended || this.source) return;
    clearTimeout(this.timer);
    this.heard = Date.now();
    const source = new EventSource("/api/live" + (this.lastId ? "?last=" + encodeURIComponent(this.lastId) : ""));
    this.source = source;
    for (const name of EVENTS) source.addEventListener(name, (event) => this.take(name, event));
    source.onerror = () => this.retry();
  }

  take(name, event) {
    this.heard = Date.now();
    this.refusals = 0;
    if (event.lastEventId) this.lastId = event.lastEventId;
    let data = null;
    try { data = JSON.parse(event.data); } catch { return; }
    if (name === "hello") this.hello = data;
    this.tell({ kind: "event", name, data, rev: this.rev() });
    if (name === "bye") this.leave(data);
  }

  rev() {
    return Number(this.lastId.slice(this.lastId.lastIndexOf("-") + 1)) || 0;
  }

  leave(data) {
    this.close();
    if (data.reason === "signed_out" || data.reason === "revoked") this.ended = true;
    else if (data.reason === "max_age") this.open();
    else this.later(data.retry_ms || 1000);
  }

  retry() {
    this.close();
    this.refusals += 1;
    this.later(Math.min(8000, 500 * 2 ** (this.refusals - 1)) * (0.8 + Math.random() * 0.4));
  }

  later(wait) {
    this.tell({ kind: "lost", retryMs: wait, polling: this.refusals > REFUSALS_BEFORE_POLLING });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open(), wait);
  }

  check() {
    if (this.source && Date.now() - this.heard > SILENCE_MS) this.reopen();
  }

  reopen() {
    this.close();
    this.open();
  }

  close() {
    if (this.source) this.source.close();
    this.source = null;
  }
}

if (typeof SharedWorkerGlobalScope !== "undefined" && self instanceof SharedWorkerGlobalScope) {
  const ports = new Set();
  const stream = new LiveStream((message) => { for (const port of ports) port.postMessage(message); });
  self.onconnect = (event) => {
    const port = event.ports[0];
    ports.add(port);
    port.onmessage = ({ data }) => {
      if (data === "leave") ports.delete(port);
      else if (data === "wake" && Date.now() - stream.heard > 12000) stream.reopen();
      else if (data === "now") { stream.close(); stream.open(); }
    };
    port.start();
    if (stream.hello && stream.source) port.postMessage({ kind: "event", name: "hello", data: { ...stream.hello, server_now: null }, rev: stream.rev() });
    stream.open();
  };
} else {
  self.NeuroTradeLiveStream = LiveStream;
}
