"use strict";
// The terminal measures letters as it begins: its font and the socket's address must be there before.
const terminal = document.getElementById("terminal");
terminal.dataset.sessionWebsocketUrl = new URL("ws", location.href).href.replace(/^http/, "ws");
document.getElementById("again").addEventListener("click", () => location.reload());
const fonts = ["", "italic "].map(style => document.fonts.load(`${style}16px 'Roboto Mono'`));
Promise.all(fonts).catch(() => {}).then(() => {
  const script = document.createElement("script");
  script.src = "textual.js";
  script.addEventListener("load", () => window.onload && window.onload());
  document.head.append(script);
});
