"use strict";

// The guide's codes for what goes wrong in the browser.
const UNEXPECTED = 9801, OFFLINE = 9800, COMMUNICATION = 9810;

const element = (id) => document.getElementById(id);
const journey = element("app").dataset;
const titles = { FRONT: "Front of your document", BACK: "Back of your document", FACE: "Your face" };
const pictures = new Map(); // by classifier
let chosen = null; // the document's radio button; null where none is needed
let parts = [];
let ended = false;

// tell posts an event to the page around this one (guide: "Optional iFrame logging").
function tell(value, code) {
	if (window.parent === window) {
		return;
	}
	window.parent.postMessage(JSON.stringify({
		accountId: journey.account,
		authorizationToken: journey.token,
		workflowExecutionId: journey.workflowExecution,
		customerInternalReference: journey.reference,
		eventType: 510,
		dateTime: new Date().toISOString(),
		payload: code ? { value, metainfo: { code } } : { value },
	}), "*"); // anybody may embed it
}

// leave sends the browser away with the guide's parameters ("After the User Journey").
function leave(url, status, code) {
	const to = new URL(url);
	to.searchParams.append("accountId", journey.account);
	to.searchParams.append("workflowExecutionId", journey.workflowExecution);
	to.searchParams.append("acquisitionStatus", status);
	to.searchParams.append("customerInternalReference", journey.reference);
	if (code) {
		to.searchParams.append("errorCode", code);
	}
	window.location.replace(to);
}

function succeed() {
	end("success", "succeeded", 0);
}

function failWith(code) {
	const meaning = element("code").querySelector(`option[value="${code}"]`);
	element("why").textContent = meaning ? meaning.textContent : "Error " + code;
	end("error", "failed", code);
}

function end(value, section, code) {
	if (ended) {
		return;
	}
	ended = true;
	element("failing").hidden = true;
	element("status").textContent = "";
	show(section);
	tell(value, code);
	const url = code ? journey.errorUrl : journey.successUrl;
	if (url) {
		leave(url, code ? "ERROR" : "SUCCESS", code);
	}
}

function show(id) {
	for (const section of document.querySelectorAll("section")) {
		section.hidden = section.id !== id;
	}
	if (document.hasFocus()) { // else it would be taken from the page around this one
		element(id).querySelector("h1").focus();
	}
}

// send posts what the person did. It returns 0, or the error code to end with.
async function send(action, fields) {
	const form = new FormData();
	form.append("authorizationToken", journey.token);
	for (const [name, value] of fields) {
		form.append(name, value);
	}
	try {
		const answer = await fetch("/web/v4/app/" + action, { method: "POST", body: form });
		return answer.ok ? 0 : (await answer.json()).errorCode;
	} catch {
		return navigator.onLine ? COMMUNICATION : OFFLINE;
	}
}

// whileBusy keeps a person from doing a second thing meanwhile.
async function whileBusy(status, work) {
	const buttons = document.querySelectorAll("button");
	buttons.forEach((b) => { b.disabled = true; });
	element("status").textContent = status;
	try {
		await work();
	} catch {
		failWith(UNEXPECTED);
	}
	element("status").textContent = "";
	buttons.forEach((b) => { b.disabled = false; });
}

async function begin() {
	const code = await send("start", []);
	if (code) {
		failWith(code);
		return;
	}
	chosen = document.querySelector("input[name=document]:checked");
	parts = chosen ? chosen.dataset.parts.split(" ") : [];
	if (journey.needsFace === "true") {
		parts.push("FACE");
	}
	await advance();
}

// advance asks for the next picture, or ends.
async function advance() {
	if (pictures.size === parts.length) {
		const code = await send("finish", [["documentType", chosen ? chosen.value : ""], ...pictures]);
		if (code) {
			failWith(code);
		} else {
			succeed();
		}
		return;
	}
	const part = parts[pictures.size];
	element("step").textContent = `Picture ${pictures.size + 1} of ${parts.length}`;
	element("what").textContent = titles[part];
	element("picture").getContext("2d").reset();
	element("picture").setAttribute("aria-label", "No picture yet");
	element("next").textContent = pictures.size + 1 === parts.length ? "Finish" : "Continue";
	offer(false);
	show("capture");
}

function offer(taken) {
	element("take").hidden = taken;
	element("again").hidden = !taken;
	element("next").hidden = !taken;
}

// take is an action too: the session's time-out starts again.
async function take() {
	const code = await send("start", []);
	if (code) {
		failWith(code);
		return;
	}
	const canvas = element("picture"), part = parts[pictures.size];
	if (part === "FACE") {
		drawFace(canvas);
	} else {
		drawDocument(canvas, chosen.dataset.name, element("country").value, part === "BACK");
	}
	canvas.setAttribute("aria-label", "A drawing: " + titles[part].toLowerCase());
	offer(true);
}

async function keep() {
	const part = parts[pictures.size];
	const picture = await new Promise((done) => { element("picture").toBlob(done, "image/png"); });
	pictures.set(part, picture);
	await advance();
}

async function failOnPurpose() {
	const code = Number(element("code").value);
	failWith(await send("fail", [["errorCode", code]]) || code);
}

element("start").addEventListener("click", () => whileBusy("", begin));
element("take").addEventListener("click", () => whileBusy("", take));
element("again").addEventListener("click", () => whileBusy("", take));
element("next").addEventListener("click", () => whileBusy("Sending…", keep));
element("fail").addEventListener("click", () => whileBusy("", failOnPurpose));

tell("loaded");
if (journey.errorCode !== "0") {
	failWith(Number(journey.errorCode));
} else {
	element("failing").hidden = false;
	show("choose");
}
