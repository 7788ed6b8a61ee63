//! First causes, proposed for faults of the simulator: the real decisions of the platform in a made-up world (`actors`'
//! simulation), whose facts go into a log that the analysis reads as it reads any other. What was done to the world is known to
//! the test and to nobody else.

mod cascade;
mod lived;
mod seeded;
