"use strict";

const element = (id) => document.getElementById(id);
const client = element("client");

// embed shows a web.href. Only the web: a javascript: URL would run in this page.
function embed(href) {
	let url = null;
	try {
		url = new URL(href);
	} catch {
		// said below
	}
	if (url === null || (url.protocol !== "http:" && url.protocol !== "https:")) {
		element("status").textContent = "This is no http or https URL.";
		return;
	}
	element("status").textContent = "";
	element("events").replaceChildren();
	client.dataset.origin = url.origin;
	client.src = url;
	client.hidden = false;
}

// Every page can post to this one, so origin and source are checked. It is still a hint.
window.addEventListener("message", (event) => {
	if (event.source !== client.contentWindow || event.origin !== client.dataset.origin) {
		return;
	}
	let data = null;
	try {
		data = JSON.parse(event.data);
	} catch {
		return; // another page's, to which the iframe has gone
	}
	const payload = data.payload || {}, metainfo = payload.metainfo || {};
	const row = element("events").insertRow();
	for (const value of [data.dateTime, data.eventType, payload.value, metainfo.code, data.workflowExecutionId, data.accountId, data.customerInternalReference]) {
		row.insertCell().textContent = value === undefined ? "" : value;
	}
});

element("embed").addEventListener("submit", (event) => {
	event.preventDefault();
	embed(element("href").value.trim());
});

const href = new URLSearchParams(window.location.search).get("href");
if (href) {
	element("href").value = href;
	embed(href);
}
