// A short text that the browser keeps for the page. Where it keeps nothing, because a person or their employer
// blocked that, even asking throws: then the text lives as long as the page is open.

export function kept(where, name) {
  let blocked = false;
  let text = null;
  const through = (does) => {
    if (!blocked) {
      try {
        return does(window[where]);
      } catch {
        blocked = true;
      }
    }
    return text;
  };
  return {
    get: () => through((storage) => storage.getItem(name)),
    set: (value) => {
      text = value || null;
      through((storage) => (text ? storage.setItem(name, text) : storage.removeItem(name)));
    },
  };
}
