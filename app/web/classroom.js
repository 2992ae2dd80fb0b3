"use strict";
// Follows the teacher: pieces of the lesson come as a stream of events, one is added at the end of the text
// each; "cut" takes some away again. Who scrolls back, or looks at an earlier moment, is left there.
const at = id => document.getElementById(id);
const text = at("text"), view = at("view"), state = at("state"), follow = at("follow"), name_ = at("name");
let voter = stored("voter"), moments = [], looking = null, live = null, following = true, over = false, missed = 0;
name_.value = stored("name");
name_.addEventListener("change", () => store("name", name_.value));

function stored(key) { try { return sessionStorage.getItem(key) || ""; } catch { return ""; } }
function store(key, value) { try { sessionStorage.setItem(key, value); } catch { /* kept for this page alone */ } }

function element(tag, words, name) {
  const made = document.createElement(tag);
  if (words) made.textContent = words;
  if (name) made.className = name;
  return made;
}

function say(words, lost) { state.textContent = words; state.className = lost ? "lost" : ""; }

// The text

function cut(keep) {
  while (text.childElementCount > keep) text.lastElementChild.remove();
  moments = moments.filter(moment => text.contains(moment.box));
  live = null;
  if (looking !== null && looking >= moments.length) looking = null;
  draw();
}

function add(piece) {
  const box = element("div", "", piece.kind);
  box.innerHTML = piece.html;  // written by the server, which escapes whatever is not its own
  if (piece.kind === "question") ask(box, piece);
  if (piece.kind === "answer") close(piece.question);
  if (piece.machines) {
    const number = moments.push({box, html: piece.machines}) - 1;
    const button = element("button", "Look at the machines then");
    button.type = "button";
    button.addEventListener("click", () => { look(number); at("machines").scrollIntoView({block: "nearest"}); });
    box.append(button);
    live = null;
  }
  text.append(box);
  const now = at("now");
  if (now) now.removeAttribute("id");
  box.id = "now"; box.tabIndex = -1;
  if (piece.machines) draw();
  if (following) box.scrollIntoView({block: "nearest"}); else { missed += 1; offer(); }
}

function offer() {
  follow.hidden = following && looking === null;
  follow.textContent = missed ? `Back to the teacher (${missed} new)` : "Back to the teacher";
}

follow.addEventListener("click", () => {
  following = true; missed = 0; look(null); offer();
  const now = at("now");
  if (now) { now.scrollIntoView({block: "nearest"}); now.focus({preventScroll: true}); }
});

addEventListener("scroll", () => {
  const now = at("now");
  following = !now || now.getBoundingClientRect().top < innerHeight;
  if (following) missed = 0;
  offer();
}, {passive: true});

// The machines

function look(number) {
  looking = number === null || number >= moments.length - 1 ? null : Math.max(0, number);
  draw(); offer();
}

function draw() {
  const number = looking === null ? moments.length - 1 : looking;
  const moment = moments[number];
  view.innerHTML = looking === null && live ? live : moment ? moment.html : "";
  at("moment").textContent = looking === null && live ? "The teacher drives them now."
    : !moment ? "They have not moved yet." : `Moment ${number + 1} of ${moments.length}` +
      (looking === null ? ", where the teacher is." : ", as it was then.");
  at("earlier").disabled = number <= 0;
  at("later").disabled = at("latest").disabled = looking === null;
}

at("earlier").addEventListener("click", () => look((looking === null ? moments.length - 1 : looking) - 1));
at("later").addEventListener("click", () => look(looking + 1));
at("latest").addEventListener("click", () => look(null));

// Questions

function ask(box, piece) {
  box.dataset.question = piece.question;
  const reply = element("p");
  reply.setAttribute("role", "status");
  const send = async (answer, pressed) => {
    reply.textContent = "Sending ...";
    try {
      const response = await fetch("answer", {method: "POST", headers: {"Content-Type": "application/json"},
        body: JSON.stringify({voter, question: piece.question, answer, name: name_.value})});
      const {refused} = await response.json();
      reply.textContent = refused ? `Not taken: ${refused}.` : "Taken. You may change it until the answer is shown.";
      if (!refused) box.querySelectorAll("button").forEach(b => b.setAttribute("aria-pressed", b === pressed));
    } catch { reply.textContent = "It could not be sent. Try again."; }
  };
  for (const [letter, html] of piece.choices) {
    const button = element("button");
    button.type = "button";
    button.innerHTML = `${letter}) ${html}`;
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => send(letter, button));
    box.append(button);
  }
  if (!piece.choices.length) {
    const label = element("label", "Your prediction: "), input = element("input"), button = element("button", "Send");
    input.inputMode = "numeric"; input.size = 12; input.maxLength = 20; button.type = "button";
    button.addEventListener("click", () => send(input.value, button));
    input.addEventListener("keydown", event => { if (event.key === "Enter") send(input.value, button); });
    label.append(input);
    box.append(label, button);
  }
  box.append(reply);
}

function close(number) {
  const box = text.querySelector(`[data-question="${Number(number)}"]`);
  if (!box) return;
  box.querySelectorAll("button, input").forEach(control => { control.disabled = true; });
  const reply = box.querySelector("[role=status]");
  if (reply) reply.textContent = "Closed.";
}

// The stream. A browser connects again by itself, and says which piece it had last.

const stream = new EventSource(`events?voter=${encodeURIComponent(voter)}`);
const on = (event, act) => stream.addEventListener(event, message => act(JSON.parse(message.data)));
on("hello", hello => {
  voter = hello.voter; store("voter", voter);
  if (hello.fresh) cut(0);
  say("You follow the teacher.");
});
on("cut", ({keep}) => cut(keep));
on("piece", add);
on("live", piece => { live = piece.machines; draw(); });
on("end", () => { over = true; stream.close(); say("The lesson has ended. You can still look back."); });
stream.onerror = () => {
  if (over) return;
  say("The connection is lost; trying again ...", true);
  if (stream.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 5000);
};
draw();
