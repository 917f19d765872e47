// A short text that the browser stores for the page. If the browser refuses, because a person or an employer
// blocked storage, even access throws: then the text lasts as long as the page is open.

/**
 * @param {"localStorage" | "sessionStorage"} storageName
 * @param {string} key
 */
export function storedText(storageName, key) {
  let blocked = false;
  /** @type {string | null} */
  let text = null;

  /** @param {(storage: Storage) => void} action */
  const use = (action) => {
    if (blocked) return;
    try {
      action(window[storageName]);
    } catch {
      blocked = true;
    }
  };
  return {
    get() {
      use((storage) => { text = storage.getItem(key); });
      return text;
    },
    /** @param {string | null} value */
    set(value) {
      text = value || null;
      use((storage) => (text ? storage.setItem(key, text) : storage.removeItem(key)));
    },
  };
}
