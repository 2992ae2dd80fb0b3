"use strict";
// The films: a slider over what the machines did, and questions that wait for an answer.
const films = JSON.parse(document.getElementById("films").textContent);
const SIGNS = {"leaves the guest": "⇄", "would not trap": "~", "runs directly": "|", "interpreted by KVM": "."};

function element(tag, text, name) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  if (name) made.className = name;
  return made;
}

function unpacked(film) {
  // Frames hold what has changed; here each gets all registers.
  const whole = film.cores.map(() => []);
  return film.frames.map(frame => frame.map((machine, number) => {
    const [done, next, ring, exits, length, changes] = machine;
    for (const [index, value] of Object.entries(changes)) whole[number][index] = value;
    return {done, next, ring, exits, length, registers: whole[number].slice(),
            changed: new Set(Object.keys(changes).map(Number))};
  }));
}

function codeRows(film, number, at) {
  const here = film.code.findIndex(line => line[0] === at);
  const rows = document.createDocumentFragment();
  if (here < 0) return rows;
  for (const [address, text, comment, marks] of film.code.slice(Math.max(0, here - 3), here + 5)) {
    const sign = SIGNS[marks[number]] || " ";
    const row = element("span", `${address === at ? ">" : " "} ${address.toString(16)} ${sign} ` +
      `${text}${comment ? "  # " + comment : ""}\n`, address === at ? "next" : sign === "⇄" ? "leaves" : "");
    rows.append(row);
  }
  return rows;
}

function registerRows(film, machine, used, first) {
  const rows = document.createDocumentFragment();
  film.names.forEach((name, index) => {
    if (!used.has(index)) return;
    const changed = !first && machine.changed.has(index);
    rows.append(element("span", `${name.padEnd(6)} ${(machine.registers[index] || "0").padStart(16)}\n`,
      changed ? "changed" : ""));
  });
  return rows;
}

function show(figure) {
  const film = films[figure.dataset.film], frames = unpacked(film);
  const bar = element("div", "", "bar"), slider = element("input"), where = element("output");
  const machines = element("div", "", "machines"), talk = element("dl", "", "talk");
  slider.type = "range"; slider.min = 0; slider.max = frames.length - 1; slider.value = frames.length - 1;
  slider.setAttribute("aria-label", "moment of this run");
  const panes = film.cores.map(core => {
    const box = element("div"), head = element("h3", core), code = element("pre"), registers = element("pre"),
      console = element("pre");
    code.tabIndex = registers.tabIndex = 0;
    box.append(head, code, registers, console);
    machines.append(box);
    return {head, code, registers, console};
  });
  const used = new Set();  // registers that are 0 all the time are left out
  for (const frame of frames) for (const {registers} of frame) {
    registers.forEach((value, index) => value !== "0" && used.add(index));
  }
  const left = frames.map((frame, i) => i > 0 && frame.some((m, n) => m.exits !== frames[i - 1][n].exits));
  const marks = element("datalist");  // the exits, as ticks on the slider
  marks.id = `exits${figure.dataset.film}`;
  left.forEach((exit, i) => {
    if (exit) { const option = element("option"); option.value = i; marks.append(option); }
  });
  slider.setAttribute("list", marks.id);
  function draw() {
    const at = Number(slider.value), frame = frames[at];
    const done = frame[0].done === null ? "not counted" : `instruction ${frame[0].done}`;
    where.textContent = `${done}${left[at] ? ", exit" : ""}`;
    slider.setAttribute("aria-valuetext", where.textContent);
    talk.replaceChildren();
    frame.forEach((machine, number) => {
      const pane = panes[number], core = film.cores[number];
      pane.head.textContent = `${core}: ${machine.exits} ${machine.exits === 1 ? "exit" : "exits"}, ring ${machine.ring}`;
      pane.code.replaceChildren(codeRows(film, number, machine.next));
      pane.registers.replaceChildren(registerRows(film, machine, used, at === 0));
      pane.console.textContent = film.console[number].slice(0, machine.length);
      const said = left[at] && machine.exits !== frames[at - 1][number].exits &&
        film.talks[core] && film.talks[core][machine.exits];
      if (said && !talk.children.length) for (const [speaker, words] of said) {
        talk.append(element("dt", speaker), element("dd", words));
      }
    });
  }
  function step(by) { slider.value = Number(slider.value) + by; draw(); }
  function leap(by) {
    let at = Number(slider.value) + by;
    while (at > 0 && at < frames.length - 1 && !left[at]) at += by;
    slider.value = at; draw();
  }
  const buttons = [["‹‹", "exit before", () => leap(-1)], ["‹", "step back", () => step(-1)],
                   ["›", "step", () => step(1)], ["››", "next exit", () => leap(1)]];
  for (const [sign, label, act] of buttons) {
    const button = element("button", sign);
    button.type = "button"; button.title = label; button.setAttribute("aria-label", label);
    button.addEventListener("click", act);
    bar.append(button);
  }
  slider.addEventListener("input", draw);
  figure.addEventListener("keydown", event => {
    if (event.key === "[" || event.key === "]") { leap(event.key === "[" ? -1 : 1); event.preventDefault(); }
  });
  bar.append(slider, marks, where);
  figure.querySelector(".still").style.display = "none";
  figure.prepend(bar, machines, talk);
  draw();
}

document.querySelectorAll(".film").forEach(show);

document.querySelectorAll(".question").forEach(question => {
  const right = question.dataset.right, reply = question.querySelector(".reply"),
    details = question.querySelector("details");
  function judge(given, why) {
    const good = given.replaceAll(",", "") === right.replaceAll(",", "");
    reply.textContent = good ? "Right." : `Not so. ${why || ""}`;
    details.open = true;
  }
  question.querySelectorAll("input[type=radio]").forEach(input =>
    input.addEventListener("change", () => judge(input.value, input.dataset.reply)));
  const number = question.querySelector("input[type=text]");
  if (number) number.addEventListener("change", () => number.value.trim() && judge(number.value.trim(), ""));
});
