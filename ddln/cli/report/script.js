"use strict";
const filter = document.getElementById("filter");
const buttons = [...filter.querySelectorAll("button")];
const items = [...document.querySelectorAll("[data-verdict]")];
const articles = items.filter((item) => item.tagName === "ARTICLE");

function show(verdict) {
  for (const item of items) item.hidden = verdict !== "" && item.dataset.verdict !== verdict;
  for (const button of buttons) button.setAttribute("aria-pressed", String(button.value === verdict));
  const shown = articles.filter((article) => !article.hidden).length;
  filter.querySelector("[role=status]").textContent = `Showing ${shown} of ${articles.length} claims`;
}

for (const button of buttons) button.addEventListener("click", () => show(button.value));
filter.hidden = false;
show("");
