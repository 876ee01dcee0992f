/* Pages opened from a folder (file://) may start no worker: there, a script in a hidden frame takes its place. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.waiting = []
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      this.frame.srcdoc = "<!doctype html><script>" +
        "self.importScripts = (...urls) => urls.reduce((done, url) => done.then(() => new Promise((found, lost) => {" +
        "const script = document.createElement('script'); script.src = url; script.onload = found;" +
        "script.onerror = () => lost(new Error('cannot load ' + url)); document.body.appendChild(script) }))," +
        "Promise.resolve());" +
        "self.postMessage = (message) => parent.dispatchEvent(new MessageEvent('spikescope-worker', { data: message }))" +
        "<\/script><body></body>"
      document.body.appendChild(this.frame)
      window.addEventListener("spikescope-worker", ({ data }) => {
        const event = new MessageEvent("message", { data })
        this.dispatchEvent(event)
        if (this.onmessage) this.onmessage(event)
      })
      this.frame.onload = () => {
        const script = this.frame.contentDocument.createElement("script")
        script.src = url
        script.onload = () => {
          this.ready = true
          this.waiting.splice(0).forEach((message) => this.postMessage(message))
        }
        this.frame.contentDocument.body.appendChild(script)
      }
    }
    postMessage(message) {
      if (!this.ready) return this.waiting.push(message)
      this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data: message }))
    }
    terminate() { this.frame.remove() }
  }
}
