// converse.js in headless Chromium. Arguments: folder for the profile, page. Lines of JSON on standard input are expressions
// to be evaluated in the page ({"id", "code"}); answers are lines of JSON on standard output. The page reaches loopback only.
import readline from "node:readline";
import { chromium } from "playwright-core";

const [profile, page_url] = process.argv.slice(2);
const tell = (line) => console.log(JSON.stringify(line));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM,
  headless: true,
  ignoreHTTPSErrors: true,
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
  ],
});
await context.route(/^https?:\/\/(?!127\.0\.0\.1|localhost)/, (route) => route.abort());
let page;
const open = async () => {
  page = await context.newPage();
  page.on("console", (message) => process.stderr.write(`${message.type()}: ${message.text().slice(0, 2000)}\n`));
  page.on("pageerror", (error) => process.stderr.write(`page error: ${error}\n`));
  await page.goto(page_url);
};
await open();
tell({ id: 0 });
for await (const line of readline.createInterface({ input: process.stdin })) {
  const { id, code } = JSON.parse(line);
  try {
    if (code === "reload") {
      await page.reload();
      tell({ id });
    } else if (code === "new tab") {
      await page.close();
      await open();
      tell({ id });
    } else {
      tell({ id, value: (await page.evaluate(code)) ?? null });
    }
  } catch (error) {
    tell({ id, error: String(error) });
  }
}
await context.close();
