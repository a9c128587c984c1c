//! Files that change under the points. `damage` breaks small files at random: the engine answers with a verified result or
//! an error. `placement` changes real llama.cpp files on purpose, the way upstream and its forks do: a line goes in where
//! a marked comment stood before the change, or its point is refused; it never goes anywhere else.

mod damage;
mod doc;
mod mutate;
mod oracle;
mod placement;
mod trees;
