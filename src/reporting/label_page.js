
for (const button of document.querySelectorAll("#suspects button")) {
  button.addEventListener("click", () => button.parentElement.classList.toggle("large"));
}
