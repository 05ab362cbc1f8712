//! A role family is not a single role: nobody can send to "the" worker, and no single role is a family.

use accompanist_core::{Abort, At, Choreography, Context, Many, Role};

#[derive(Clone, Copy)]
struct Client;
impl Role for Client {
    const NAME: &'static str = "client";
    type Service = ();
}
#[derive(Clone, Copy)]
struct Worker;
impl Role for Worker {
    const NAME: &'static str = "worker";
    type Service = ();
}

struct Program;
impl Choreography for Program {
    const NAME: &'static str = "program";
    type Roles = (Client, Many<Worker>);
    type Input = At<Client, u32>;
    type Output = At<Client, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, input: At<Client, u32>) -> Result<At<Client, u32>, Abort> {
        ctx.comm(Client, Worker, &input).await?;
        ctx.multicast_each(Worker, Client, &input).await?;
        Ok(input)
    }
}

fn main() {}
