// What the pages do beside htmx. Without JavaScript each of these has a button, or is not needed.
"use strict";

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
  if (event.target.matches("[data-all]")) {
    for (const box of document.getElementsByName(event.target.dataset.all)) box.checked = event.target.checked;
  }
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
  button.textContent = "Copied";
});

for (const each of document.querySelectorAll("[data-show]")) each.hidden = false;
for (const each of document.querySelectorAll("[data-hide]")) each.hidden = true;
