// The theme a user chose, put on the document before anything is drawn: a classic script, so that nothing flashes.
// Without a choice the system's theme holds, by `color-scheme` in style.css.
(() => {
  const KEY = "gemcut.theme";
  const dark = matchMedia("(prefers-color-scheme: dark)");

  function chosen() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage is blocked: the system's theme
    }
  }

  function show(theme) {
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  }

  /** The theme that is shown: "light" or "dark". */
  function current() {
    return document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
  }

  /** Changes to the other theme; one that is the system's own is not kept as a choice. */
  function toggle() {
    const theme = current() === "dark" ? "light" : "dark";
    const isSystem = (theme === "dark") === dark.matches;
    show(isSystem ? null : theme);
    try {
      if (isSystem) localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, theme);
    } catch {
      // Storage is blocked: the choice holds for this visit.
    }
    return theme;
  }

  show(chosen());
  window.gemcutTheme = { current, toggle };
})();
