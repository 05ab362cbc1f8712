// Links that lead out of the book, to the sources, which are beside `docs` in the repository. In the built book they
// would lead nowhere: show them as what they are, paths in the repository, or lead to it where it is known
// (`git-repository-url` in book.toml).
(() => {
    const repository = document.querySelector('a[href][title="Git repository"]')?.href.replace(/\/$/, '');
    const book = new URL(path_to_root || './', document.location);
    for (const link of document.querySelectorAll('main a[href]')) {
        if (link.getAttribute('href').includes('://') || link.href.startsWith(book.href)) continue;
        const path = link.href.slice(new URL('..', book).href.length).replace(/\.html(#|$)/, '.md$1');
        if (repository) {
            link.href = `${repository}/blob/main/${path}`;
        } else {
            link.removeAttribute('href');
            link.title = `${path} in the repository`;
        }
    }
})();
