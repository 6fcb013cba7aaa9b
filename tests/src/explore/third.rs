//! The model's third host: the witness.

use csm_user::ft::witness::grants::Grants;
use csm_user::ft::witness::wire::Word;

use crate::explore::host::{Host, Mail};
use crate::explore::world::{Defect, EPOCH, Letter, Setting, World};

impl Setting {
    /// Time of the witness's clock, ns.
    pub(super) fn witness_now(&self, world: &World) -> u64 {
        EPOCH + world.ticks * (self.heartbeat() / self.resolution)
    }

    /// It ends, and starts at once.
    pub(super) fn restart_witness(&self, world: &mut World) {
        world.faults -= 1;
        world.ghost.trouble();
        let nonce = world.witness.as_ref().map_or(0, Grants::nonce);
        let longest = match self.defect {
            Some(Defect::ForgetfulWitness) => None,
            _ => Some(self.lease()),
        };
        let now = self.witness_now(world);
        // One that waits for nothing has waited long ago.
        let since = if longest.is_some() { now } else { 0 };
        world.witness = Some(Grants::new(nonce + 1, longest.unwrap_or_default(), since));
    }

    /// Two of the three that must agree are there: the host and the witness, or both hosts. Of two hosts that hear each other in
    /// one direction only, either may be the one that must ask.
    pub(super) fn served(&self, world: &World) -> [bool; 2] {
        let Some(witness) = &world.witness else { return [true; 2] };
        let (_, unsettled, _) = witness.outlook(self.witness_now(world));
        let asks = world.cut_witness.map(|cut| !cut && unsettled == 0);
        match world.cut {
            [false, false] if world.hosts.iter().all(Host::is_awake) => [true; 2],
            [true, true] | [false, false] => asks,
            _ => [asks == [true; 2]; 2],
        }
    }

    /// A host asks the witness.
    pub(super) fn ask(&self, world: &mut World, from: usize, word: &Word) {
        let now = self.witness_now(world);
        if world.cut_witness[from] {
            return;
        }
        let answer = world.witness.as_mut().and_then(|witness| witness.answer(word, now).0);
        let Some(answer) = answer.map(|word| Letter { to: from, mail: Mail::Witness(word), held: None })
        else {
            return;
        };
        if self.letters {
            world.letters.push(answer);
        } else {
            self.deliver(world, &answer);
        }
    }
}
